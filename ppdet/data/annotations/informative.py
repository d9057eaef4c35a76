"""Which images are worth labelling next: those with objects that a detector is uncertain about, above all of classes
with few labels, and that differ from one another.

A detection of score p counts as p H(p) uncertain objects, where H is the entropy of yes or no with this probability: p
is the chance that it is an object, and H(p) the detector's doubt. FCOS scores each class by a sigmoid, so that a score
is a yes or no. The uncertain objects of an image and class are added up, since many doubtful objects teach more than
one. Of sum, mean and maximum, the sum is best in Brust, Käding and Denzler, "Active Learning for Deep Object
Detection", VISAPP 2019, pages 181-190 (arXiv:1809.09875), who measure the doubt by the margin between two classes and
give rare classes more weight. Yang, Huang and Crowley, "Plug and Play Active Learning for Object Detection", CVPR 2024
(arXiv:2211.11612), sum entropies, with more weight for difficult classes.

The more labels of a class there are, the less another one brings. Therefore n labels of a class are worth log(1 + n),
and an image is worth what its uncertain objects add to the labels at hand. Such sums of concave functions are what Wei,
Iyer and Bilmes choose training data by, "Submodularity in Data Subset Selection and Active Learning", ICML 2015.

Such images alone would resemble one another. Therefore they are chosen one after another, each time the one with the
largest product of what it adds and of the root of its distance to the nearest image that is chosen or labeled: farthest
first, as in Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018
(arXiv:1708.00489), weighted by the value. The root keeps odd images from outweighing those with much to label.
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

LEAST_SCORE = 0.05  # detections below it are noise, of which there are hundreds in an image
SIDE = 8  # pixels of the thumbnail that describes an image where no detector does


def uncertain_objects(detections: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Return the number (N, classes) of uncertain objects of each class in images, 0 or more.

    Args:
        detections: rows (M, 6) of [class, score, x1, y1, x2, y2] of each of N images.
        classes: the number of classes.
    """
    found = np.zeros((len(detections), classes))
    for objects, rows in zip(found, detections):
        kept = rows[rows[:, 1] >= LEAST_SCORE]
        np.add.at(objects, kept[:, 0].astype(int), kept[:, 1] * entropy(kept[:, 1]))
    return found


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
    objects: np.ndarray,
    groups: Iterable[Sequence[int]],
    labeled: Iterable[int] = (),
    counts: np.ndarray | float = 0,
) -> tuple[list[int], list[float]]:
    """Choose images to label next.

    Args:
        number: how many, at most.
        features: (N, D) vectors whose Euclidean distance says how different two images are.
        objects: (N, C) the uncertain objects of each class; images of equal ones are chosen by distance alone.
        groups: near-duplicates: at most one image of each group is chosen, the one that is worth most, and none if one
            of them is labeled. They name every image once that may be chosen.
        labeled: images that have labels already.
        counts: (C,) the labels of each class.

    Returns:
        The chosen images in the order of choice, and the distance of each to the nearest image that was labeled or
        chosen before it; NaN for the first one where nothing is labeled.
    """
    covered = list(labeled)
    known = set(covered)
    labels = np.broadcast_to(np.asarray(counts, np.float64), objects.shape[1:]).copy()
    first = _added(objects, labels)
    candidates = np.array(
        sorted(max(group, key=lambda i: first[i]) for group in groups if not known & set(group)), dtype=np.int64
    )
    features = np.asarray(features, np.float64)
    nearest = np.full(len(candidates), np.inf)

    def cover(image: int) -> None:
        np.minimum(nearest, np.linalg.norm(features[candidates] - features[image], axis=1), out=nearest)

    for image in covered:
        cover(image)
    chosen: list[int] = []
    distances: list[float] = []
    left = np.ones(len(candidates), bool)
    while left.any() and len(chosen) < number:
        worth = _added(objects[candidates], labels)
        gains = worth * (np.sqrt(nearest) if np.isfinite(nearest).all() else 1)
        # Of equal gains, as 0 for copies, the image that is worth more.
        best = max(np.flatnonzero(left).tolist(), key=lambda i: (gains[i], worth[i], -i))
        left[best] = False
        distances.append(float(nearest[best]) if np.isfinite(nearest[best]) else float("nan"))
        chosen.append(int(candidates[best]))
        labels += objects[candidates[best]]
        cover(chosen[-1])
    return chosen, distances


def _added(objects: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What each image (N, C) adds to log(1 + labels) of the classes (C,), above 0.

    The smallest positive number keeps images without detections in the choice, behind all others.
    """
    return np.maximum(np.log1p(objects / (1 + labels)).sum(axis=1), np.finfo(np.float64).tiny)
