"""How good the labels are that a teacher gives to unlabelled images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Truth = tuple[np.ndarray, np.ndarray]  # of an image: boxes (M, 4) x1, y1, x2, y2 and classes (M,)


class Selected(NamedTuple):
    """The K locations of some images that a teacher labels, the best one first.

    image, level, label: (K,) indices of image, level and class. score: (K,) probability of that class. points: (K, 2)
    x, y of the locations. boxes: (K, 4) x1, y1, x2, y2. Both are in pixels of the network's input.
    """

    image: np.ndarray
    level: np.ndarray
    label: np.ndarray
    score: np.ndarray
    points: np.ndarray
    boxes: np.ndarray


def measure(selected: Selected, truth: Sequence[Truth] | None) -> dict[str, float]:
    """Figures of pseudo-labels, NaN where there is nothing to take the mean of.

    fg_sum and mean_score: sum and mean of the selected locations' scores. precision: the share of them that is correct,
    inside a true box of the class that they say. recall: the share of true boxes with such a location inside. box_iou:
    mean IoU of the boxes at correct locations, each with the true box of its class that it overlaps most.

    Args:
        truth: of every image; None gives fg_sum and mean_score alone.
    """
    figures = {"fg_sum": float(selected.score.sum()), "mean_score": float(selected.score.mean())}
    if truth is None:
        return figures
    correct, found, overlaps = [], [], []
    for number, (boxes, classes) in enumerate(truth):
        here = selected.image == number
        same = selected.label[here, None] == classes
        points = selected.points[here, None]
        inside = (points > boxes[:, :2]).all(axis=2) & (points < boxes[:, 2:]).all(axis=2)
        right = (same & inside).any(axis=1)
        correct.append(right)
        found.append((same & inside).any(axis=0))
        overlaps.append(np.where(same, pairwise_iou(selected.boxes[here], boxes), 0.0).max(axis=1, initial=0.0)[right])
    named = {"precision": correct, "recall": found, "box_iou": overlaps}
    return {**figures, **{name: mean(np.concatenate(values)) for name, values in named.items()}}


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (K, M) of boxes (K, 4) with others (M, 4), x1, y1, x2, y2; 0 where neither has an area."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    inner = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(one[:, 2:] - one[:, :2]).prod(axis=1) for one in (boxes, others)]
    return inner / np.maximum(areas[0][:, None] + areas[1] - inner, 1e-9)
