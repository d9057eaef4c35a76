"""Which images are worth labelling next: those that a detector is uncertain about, and that differ from one another.

The uncertainty of an image is the sum, over its detections, of the entropy of the score, with the weight of the class.
Summing finds images with many doubtful objects, which teach more than one doubtful object. Of sum, mean and maximum,
the sum is best in Brust, Käding and Denzler, "Active Learning for Deep Object Detection", VISAPP 2019, pages 181-190
(arXiv:1809.09875), who measure the doubt by the margin between two classes and give rare classes more weight. Yang,
Huang and Crowley, "Plug and Play Active Learning for Object Detection", CVPR 2024 (arXiv:2211.11612), sum entropies,
with more weight for difficult classes. FCOS scores each class by a sigmoid, so that the entropy is that of a yes or no.

Uncertain images alone would resemble one another. Therefore the images are chosen one after another, each time the one
with the largest product of its uncertainty and its distance to the nearest image that is chosen or labeled: farthest
first, as in Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018
(arXiv:1708.00489), weighted by uncertainty.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

LEAST_SCORE = 0.05  # detections below it are noise, of which there are hundreds in an image
SIDE = 8  # pixels of the thumbnail that describes an image where no detector does


def uncertainties(detections: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Return the uncertainty (N,) of images, 0 or more.

    Args:
        detections: rows (M, 6) of [class, score, x1, y1, x2, y2] of each of N images.
        classes: the number of classes. Rarer classes weigh more, by (n + C) / (n_c + C), where n_c is the expected
            number of objects of the class in all images, the sum of its scores, and n that of all C classes.
    """
    kept = [rows[rows[:, 1] >= LEAST_SCORE] for rows in detections]
    expected = np.zeros(classes)
    for rows in kept:
        np.add.at(expected, rows[:, 0].astype(int), rows[:, 1])
    weights = (expected.sum() + classes) / (expected + classes)
    return np.array([float((weights[rows[:, 0].astype(int)] * entropy(rows[:, 1])).sum()) for rows in kept])


def entropy(scores: np.ndarray) -> np.ndarray:
    """Return the entropy, in bits from 0 to 1, of yes or no with these probabilities of yes, from 0 to 1."""
    p = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


def thumbnail_features(image: np.ndarray) -> np.ndarray:
    """Return what an image (H, W, 3) uint8 looks like from afar: (192,) colors from 0 to 1 of its 8 x 8 parts."""
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).reshape(-1) / 255


def choose(
    number: int,
    features: np.ndarray,
    values: np.ndarray,
    groups: Iterable[Sequence[int]],
    labeled: Iterable[int] = (),
) -> tuple[list[int], list[float]]:
    """Choose images to label next.

    Args:
        number: how many, at most.
        features: (N, D) vectors whose Euclidean distance says how different two images are.
        values: (N,) the uncertainty of each image, 0 or more; equal values choose by distance alone.
        groups: near-duplicates: at most one image of each group is chosen, the one with the largest value, and none if
            one of them is labeled. They name every image once that may be chosen.
        labeled: images that have labels already.

    Returns:
        The chosen images in the order of choice, and the distance of each to the nearest image that was labeled or
        chosen before it; NaN for the first one where nothing is labeled.
    """
    covered = list(labeled)
    known = set(covered)
    candidates = np.array(
        sorted(max(group, key=lambda i: values[i]) for group in groups if not known & set(group)), dtype=np.int64
    )
    features = np.asarray(features, np.float64)
    # The smallest positive value keeps images without detections in the choice, behind all others.
    weights = np.maximum(np.asarray(values, np.float64), np.finfo(np.float64).tiny)[candidates]
    nearest = np.full(len(candidates), np.inf)

    def cover(image: int) -> None:
        np.minimum(nearest, np.linalg.norm(features[candidates] - features[image], axis=1), out=nearest)

    for image in covered:
        cover(image)
    chosen: list[int] = []
    distances: list[float] = []
    left = np.ones(len(candidates), bool)
    while left.any() and len(chosen) < number:
        gains = weights * (nearest if np.isfinite(nearest).all() else 1)
        # Of equal gains, as 0 for copies, the image of larger value.
        best = max(np.flatnonzero(left).tolist(), key=lambda i: (gains[i], weights[i], -i))
        left[best] = False
        distances.append(float(nearest[best]) if np.isfinite(nearest[best]) else float("nan"))
        chosen.append(int(candidates[best]))
        cover(chosen[-1])
    return chosen, distances
