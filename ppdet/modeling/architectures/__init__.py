from ppdet.modeling.architectures.base import DenseDetector
from ppdet.modeling.architectures.fcos import FCOS

__all__ = ["FCOS", "DenseDetector"]
