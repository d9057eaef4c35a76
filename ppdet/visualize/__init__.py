"""Pictures of detections and of training batches."""

from ppdet.visualize.draw import draw_batch, draw_detections

__all__ = ["draw_batch", "draw_detections"]
