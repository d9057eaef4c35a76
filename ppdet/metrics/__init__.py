"""How good the detections are. pycocotools and faster-coco-eval are imported when a metric is computed."""

from ppdet.metrics.coco_metric import COCOMetric

__all__ = ["COCOMetric"]
