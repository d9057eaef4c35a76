from ppdet.modeling.architectures.fcos import FCOS

__all__ = ["FCOS"]
