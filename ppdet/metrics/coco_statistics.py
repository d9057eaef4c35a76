"""COCO's twelve numbers as means of what the libraries compute."""

from typing import Any

import numpy as np

AREAS = ("all", "small", "medium", "large")
MAX_DETECTIONS = (1, 10, 100)
# name: (what is averaged, IoU threshold or None for 0.50, 0.55 ... 0.95, area, detections per image)
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
    """Mean over the defined (> -1) entries of "precision" or "recall", -1 when none is defined.

    `category` is a position among the sorted category ids, None for all of them.
    """
    values = np.asarray(evaluation[kind])[..., AREAS.index(area), MAX_DETECTIONS.index(max_detections)]
    if iou is not None:
        values = values[round((iou - 0.5) / 0.05)][None]
    if category is not None:
        values = values[..., category]
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
