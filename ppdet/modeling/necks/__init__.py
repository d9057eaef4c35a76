from ppdet.modeling.necks.fpn import FPN

__all__ = ["FPN"]
