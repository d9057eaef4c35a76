"""Precision, recall and F1 of a class for every score threshold, and the threshold with the highest F1."""

from typing import NamedTuple

import numpy as np

POINTS = 101  # thresholds 0, 0.01 … 1 of the curves on a page


class BestThreshold(NamedTuple):
    """The threshold with the highest F1, and what it gives there: numbers from 0 to 1."""

    threshold: float
    f1: float
    precision: float
    recall: float


def f1_curve(scores: np.ndarray, hits: np.ndarray, boxes: int) -> np.ndarray:
    """F1 (POINTS,) at the thresholds 0, 0.01 … 1; NaN everywhere if there are no boxes.

    Args:
        scores: (M,) scores of the detections of a class.
        hits: (M,) bool: the detection matches an annotated box of the class.
        boxes: the number of annotated boxes of the class.
    """
    if boxes == 0:
        return np.full(POINTS, np.nan)
    grid = np.linspace(0, 1, POINTS)
    ordered = np.sort(scores)
    kept = len(scores) - np.searchsorted(ordered, grid)
    found = hits.sum() - np.searchsorted(np.sort(scores[hits]), grid)
    return 2 * found / (kept + boxes)


def best_threshold(scores: np.ndarray, hits: np.ndarray, boxes: int) -> BestThreshold | None:
    """The score threshold with the highest F1; None if the class has no boxes or no detection matches one.

    The threshold lies halfway between the lowest score that is kept and the next one, so that scores that differ a
    little, as between engines, do not change what is kept.

    Args:
        scores, hits, boxes: see `f1_curve`.
    """
    if boxes == 0 or not hits.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(hits[order])
    f1 = 2 * found / (np.arange(1, len(scores) + 1) + boxes)
    # Detections of one score are kept together, or not at all.
    f1[:-1][scores[:-1] == scores[1:]] = -1
    last = int(np.argmax(f1))
    below = scores[last + 1] if last + 1 < len(scores) else 0.0
    threshold = round(float(scores[last] + below) / 2, 4)
    if not below < threshold <= scores[last]:
        threshold = float(scores[last])
    precision, recall = found[last] / (last + 1), found[last] / boxes
    return BestThreshold(threshold, float(f1[last]), float(precision), float(recall))
