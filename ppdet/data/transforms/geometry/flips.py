"""Flips and quarter turns."""

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability

QUARTER_TURNS = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


@register
@serializable
class RandomFlip(Transform):
    """Flips the image and its boxes horizontally, at random.

    Args:
        prob: probability of a flip, from 0 to 1.
    """

    keeps_uint8 = moves_pixels = moves_objects = True
    listed_before = "Permute"

    def __init__(self, *, prob: float = 0.5) -> None:
        check_probability(prob, "RandomFlip.prob")
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        w = sample["image"].shape[1]
        sample["image"] = cv2.flip(sample["image"], 1)
        if "gt_bbox" in sample:
            x1, y1, x2, y2 = sample["gt_bbox"].T
            sample["gt_bbox"] = np.stack([w - x2, y1, w - x1, y2], axis=1)
        return sample


@register
@serializable
class RandomVerticalFlip(Transform):
    """Turns the image and its boxes upside down, as in a mirror that lies below it, at random.

    For images that have no up and down, such as cells under a microscope, boards, or the ground seen from above.

    Args:
        prob: probability of a flip, from 0 to 1.
    """

    keeps_uint8 = moves_pixels = moves_objects = True
    listed_before = "Permute"

    def __init__(self, *, prob: float = 0.5) -> None:
        check_probability(prob, "RandomVerticalFlip.prob")
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        h = sample["image"].shape[0]
        sample["image"] = cv2.flip(sample["image"], 0)
        if "gt_bbox" in sample:
            x1, y1, x2, y2 = sample["gt_bbox"].T
            sample["gt_bbox"] = np.stack([x1, h - y2, x2, h - y1], axis=1)
        return sample


@register
@serializable
class RandomRotate90(Transform):
    """Rotates the image and its boxes by 90, 180 or 270 degrees, at random, each equally often.

    A turn by 90 or 270 degrees swaps height and width. No pixel is interpolated, and boxes stay exact. With
    RandomFlip, it makes all eight views of an image that has no up and down.

    Args:
        prob: probability of a rotation, from 0 to 1.
    """

    keeps_uint8 = moves_pixels = moves_objects = True
    listed_before = "Permute"

    def __init__(self, *, prob: float = 0.5) -> None:
        check_probability(prob, "RandomRotate90.prob")
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        turns = int(rng.integers(1, 4))  # quarters, counterclockwise
        sample["image"] = cv2.rotate(sample["image"], QUARTER_TURNS[turns - 1])
        for _ in range(turns):
            sample = _turn_fields(sample)
        return sample


def _turn_fields(sample: dict) -> dict:
    """Turn all fields but the image by 90 degrees counterclockwise: what was right is on top."""
    w = sample["im_shape"][1]
    sample["im_shape"] = sample["im_shape"][::-1].copy()
    if "scale_factor" in sample:
        sample["scale_factor"] = sample["scale_factor"][::-1].copy()
    if "gt_bbox" in sample:
        x1, y1, x2, y2 = sample["gt_bbox"].T
        sample["gt_bbox"] = np.stack([y1, w - x2, y2, w - x1], axis=1)
    return sample
