"""COCO's evaluation metrics, and the base class of user-defined metrics.

faster-coco-eval is imported when a metric is computed.
"""

from ppdet.metrics.coco_metric import COCOMetric
from ppdet.metrics.eval_metric import EvalMetric, EvaluatedImage

__all__ = ["COCOMetric", "EvalMetric", "EvaluatedImage"]
