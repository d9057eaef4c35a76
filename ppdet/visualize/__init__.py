"""Pictures of detections, of training batches and of pseudo-labels."""

from ppdet.visualize.draw import draw_batch, draw_detections, draw_pseudo_labels, has_room, write_picture

__all__ = ["draw_batch", "draw_detections", "draw_pseudo_labels", "has_room", "write_picture"]
