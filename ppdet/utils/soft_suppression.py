"""Soft-NMS in NumPy, for evaluation and for merging views (Bodla et al., arXiv:1704.04503, section 3)."""

from typing import NamedTuple

import numpy as np

from ppdet.utils.boxes import pairwise_overlap

SIGMAS = (1e-6, 1e6)  # least and largest: scores decayed by far smaller ones would not be numbers


class Decay(NamedTuple):
    """What becomes of the score of a box that overlaps a better one of its class, see `SoftNMS`.

    Attributes:
        method: `gaussian` or `linear`.
        sigma: width of `gaussian`, within SIGMAS.
        threshold: an IoU, 0..1; `linear` only changes scores of boxes that overlap by this.
    """

    method: str
    sigma: float
    threshold: float

    def factors(self, overlap: np.ndarray) -> np.ndarray:
        """What scores are multiplied with, by their boxes' IoU with the better box."""
        if self.method == "gaussian":
            return np.exp(overlap * overlap * (-1 / self.sigma))
        return 1 - overlap * (overlap >= self.threshold)


def suppress_softly(
    boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, decay: Decay, least: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take the boxes of an image one after the other, the best first; each lowers the scores of its class's others.

    Args:
        boxes: (M, 4) x1, y1, x2, y2.
        labels: (M,), their classes.
        scores: (M,) in 0..1. NaN is above no score.
        least: boxes are taken while their scores are above this, 0..1.
        most: number of boxes that are taken, unless there are fewer.

    Returns:
        The scores with which boxes are taken (T,), of the dtype of `scores`, from the highest to the lowest, and
        their places among the M (T,).
    """
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    lowest = scores.dtype.type(least)  # NumPy 1 would compare one float32 with it in float64
    waiting = np.where(scores > lowest, scores, np.zeros_like(scores))
    values: list[np.floating] = []
    places: list[int] = []
    while len(places) < min(most, len(waiting)) and waiting[best := int(waiting.argmax())] > lowest:
        values.append(waiting[best])
        places.append(best)
        others = members[labels[best]]
        overlap = pairwise_overlap(boxes[best : best + 1], boxes[others])[0]
        waiting[others] *= decay.factors(overlap)
        waiting[best] = 0
    return np.array(values, scores.dtype), np.array(places, np.int64)
