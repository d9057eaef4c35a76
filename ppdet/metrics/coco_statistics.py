"""COCO's twelve numbers, as means of precision and recall."""

from collections.abc import Mapping
from typing import Any

import numpy as np

AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = (1, 10, 100)
# name: (precision or recall, IoU threshold or None for the mean of 0.50, 0.55 … 0.95, area, detections per image)
STATISTICS = {
    "AP": ("precision", None, "all", 100),
    "AP50": ("precision", 0.50, "all", 100),
    "AP75": ("precision", 0.75, "all", 100),
    "APs": ("precision", None, "small", 100),
    "APm": ("precision", None, "medium", 100),
    "APl": ("precision", None, "large", 100),
    "AR1": ("recall", None, "all", 1),
    "AR10": ("recall", None, "all", 10),
    "AR100": ("recall", None, "all", 100),
    "ARs": ("recall", None, "small", 100),
    "ARm": ("recall", None, "medium", 100),
    "ARl": ("recall", None, "large", 100),
}


def mean(
    evaluation: dict[str, Any],
    kind: str,
    iou: float | None,
    area: str,
    max_detections: int,
    category: int | None = None,
) -> float:
    """The mean of precision or recall over its defined entries, which are above -1; -1 if no entry is defined.

    Args:
        evaluation: the result of `coco_backend.evaluate_boxes`.
        kind, iou, area, max_detections: see `STATISTICS`.
        category: position of a category in the sorted ids; None for all categories.
    """
    values = np.asarray(evaluation[kind])[..., AREAS.index(area), MAX_DETECTIONS.index(max_detections)]
    if iou is not None:
        values = values[round((iou - 0.5) / 0.05)][None]
    if category is not None:
        values = values[..., category]
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def summary_lines(numbers: Mapping[str, float]) -> list[str]:
    """The twelve lines that pycocotools prints.

    Args:
        numbers: the number of each of `STATISTICS`, from 0 to 1, or -1.
    """
    titles = {"precision": "Average Precision  (AP)", "recall": "Average Recall     (AR)"}
    lines = []
    for name, (kind, iou, area, limit) in STATISTICS.items():
        span = "0.50:0.95" if iou is None else f"{iou:0.2f}"
        where = f"IoU={span:<9} | area={area:>6s} | maxDets={limit:>3d}"
        lines.append(f" {titles[kind]} @[ {where} ] = {numbers[name]:0.3f}")
    return lines
