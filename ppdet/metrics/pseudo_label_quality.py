"""Quality of the pseudo-labels that a teacher gives to unlabeled images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppdet.utils.boxes import pairwise_overlap

Truth = tuple[np.ndarray, np.ndarray]  # the annotations of an image: boxes (M, 4) x1, y1, x2, y2 and classes (M,)


class Selected(NamedTuple):
    """The K locations at which a teacher gives pseudo-labels, the one with the largest score first.

    image, level, label: (K,) index of the image, the feature level and the class.
    score: (K,) probability of that class.
    points: (K, 2) x, y of the locations in pixels of the network's input.
    boxes: (K, 4) predicted boxes x1, y1, x2, y2 in pixels of the network's input.
    """

    image: np.ndarray
    level: np.ndarray
    label: np.ndarray
    score: np.ndarray
    points: np.ndarray
    boxes: np.ndarray


def measure(selected: Selected, truth: Sequence[Truth] | None) -> dict[str, float]:
    """Measure pseudo-labels.

    Args:
        truth: the annotations of every image; None if there are none.

    Returns:
        fg_sum and mean_score: sum and mean of the scores. With `truth` also precision: the share of the locations that
        lie in an annotated box of their class; recall: the share of annotated boxes that contain such a location;
        box_iou: the mean, over these locations, of the largest IoU of the predicted box with an annotated box of its
        class. A mean of nothing is NaN.
    """
    figures = {"fg_sum": float(selected.score.sum()), "mean_score": float(selected.score.mean())}
    if truth is None:
        return figures
    correct, found, overlaps = [], [], []
    for number, (boxes, classes) in enumerate(truth):
        in_image = selected.image == number
        same_class = selected.label[in_image, None] == classes
        points = selected.points[in_image, None]
        inside = (points > boxes[:, :2]).all(axis=2) & (points < boxes[:, 2:]).all(axis=2)
        is_correct = (same_class & inside).any(axis=1)
        correct.append(is_correct)
        found.append((same_class & inside).any(axis=0))
        iou = np.where(same_class, pairwise_overlap(selected.boxes[in_image], boxes), 0.0)
        overlaps.append(iou.max(axis=1, initial=0.0)[is_correct])
    named = {"precision": correct, "recall": found, "box_iou": overlaps}
    return {**figures, **{name: mean(np.concatenate(values)) for name, values in named.items()}}


def mean(values: np.ndarray) -> float:
    """The mean, NaN for no values."""
    return float(values.mean()) if values.size else float("nan")
