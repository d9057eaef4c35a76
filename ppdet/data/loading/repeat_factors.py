"""How often images with rare classes come in an epoch: repeat factor sampling."""

from collections.abc import Sequence

import numpy as np

from ppdet.data.classes import quote_names
from ppdet.data.sources.dataset import DetectionDataset
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

logger = get_logger(__name__)
MOST_LISTED = 5  # classes in the line of the log


def class_factors(presence: np.ndarray, threshold: float) -> np.ndarray:
    """Return the repeat factor of each class, (classes,) float64, at least 1.

    That is max(1, sqrt(threshold / f)) for a class in a share f of the images, as in "LVIS: A Dataset for Large
    Vocabulary Instance Segmentation" (Gupta, Dollár, Girshick, CVPR 2019, arXiv:1908.03195), appendix B.2 in version 2.
    LVIS has the threshold 0.001. A class without images has the factor 1.

    Args:
        presence: (images, classes) bool, whether an image has boxes of a class.
        threshold: share of the images, above 0 and at most 1; classes in fewer of them come more often.
    """
    shares = presence.mean(axis=0)
    return np.maximum(1.0, np.sqrt(threshold / np.where(shares > 0, shares, 1.0)))


def image_factors(presence: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the repeat factor of each image, (images,) float64: the largest of its classes, 1 without boxes."""
    return np.where(presence, factors, 1.0).max(axis=1, initial=1.0)


def class_presence(dataset: DetectionDataset) -> np.ndarray:
    """Return whether images have boxes of classes, (images, classes) bool. Boxes around groups do not count."""
    presence = np.zeros((len(dataset), len(dataset.class_names)), bool)
    for row, record in zip(presence, dataset.records):
        classes = record["gt_class"].reshape(-1)
        row[classes[record["is_crowd"].reshape(-1) == 0] if "is_crowd" in record else classes] = True
    return presence


def repeat_factors(dataset: DetectionDataset, threshold: float, *, announce: bool) -> np.ndarray:
    """Return how often each image of a data set comes in an epoch on average, (images,) float64, at least 1.

    Args:
        threshold: see `class_factors`.
        announce: log what becomes of an epoch.
    """
    presence = class_presence(dataset)
    by_class = class_factors(presence, threshold)
    factors = image_factors(presence, by_class)
    if announce:
        logger.info("%s", description(dataset.class_names, by_class, factors, threshold))
    return factors


def description(names: Sequence[str], by_class: np.ndarray, factors: np.ndarray, threshold: float) -> str:
    """Return a line about an epoch with repeated images."""
    rarest = [number for number in np.argsort(-by_class, kind="stable").tolist() if by_class[number] > 1]
    if not rarest:
        return f"repeat_threshold {threshold:g} changes nothing: every class is in that share of the images, or in none"
    some = ", ".join(f"{quote_names([names[number]])} {by_class[number]:.2f}" for number in rarest[:MOST_LISTED])
    some += ", …" if len(rarest) > MOST_LISTED else ""
    count = int(factors.sum())
    if count == len(factors):
        return (
            f"repeat_threshold {threshold:g} changes nothing: there are too few images: the repeat factors ({some}) "
            f"add up to {factors.sum():.2f} images for {counted(count, 'image')}"
        )
    return (
        f"repeat_threshold {threshold:g}: an epoch has {count} images, of {len(factors)} different ones; "
        f"repeat factors: {some}"
    )
