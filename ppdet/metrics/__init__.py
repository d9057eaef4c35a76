"""COCO's evaluation metrics, AP at one IoU threshold, and the base class of user-defined metrics.

Importing this package registers its components. hotcoco is imported when a metric is computed.
"""

from ppdet.metrics.ap_at_iou import APAtIoU
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.metrics.eval_metric import EvalMetric, EvaluatedImage

__all__ = ["APAtIoU", "COCOMetric", "EvalMetric", "EvaluatedImage"]
