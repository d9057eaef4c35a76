"""Crops whose sides are given in pixels, before or after a resizing."""

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability
from ppdet.data.transforms.box_fields import Area
from ppdet.data.transforms.geometry.crop import check_windows, crop_sample, find_window, has_center_inside
from ppdet.data.transforms.geometry.resize import (
    Size,
    as_pair,
    check_interpolation,
    check_sizes,
    require_size,
    resize_sample,
)
from ppdet.utils.boxes import clip_to_image
from ppdet.utils.ranges import require_choice, require_number


@register
@serializable
class RandomSizeCrop(Transform):
    """Crops the image to a random window whose sides are drawn in pixels, as in DETR (arXiv:2005.12872, section 4).

    Height and width are drawn independently of each other and of the boxes. Boxes are clipped to the window, and those
    outside of it are dropped. An image that is smaller than `min_size` keeps its whole height, or width.

    Args:
        min_size: smallest side of the window in pixels.
        max_size: largest side of the window in pixels; the image's own side if that is smaller.
        keep_empty: crop to windows without any box too. If false, an image whose boxes would all be lost stays as it
            is; one that has no boxes anyway is cropped.
    """

    keeps_uint8 = moves_pixels = moves_objects = True
    listed_before = "Permute"

    def __init__(self, *, min_size: int, max_size: int, keep_empty: bool = True) -> None:
        require_number("RandomSizeCrop.min_size", min_size, minimum=1)
        require_number("RandomSizeCrop.max_size", max_size, minimum=min_size)
        self.min_size = min_size
        self.max_size = max_size
        self.keep_empty = keep_empty

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        x1, y1, x2, y2 = window = draw_window(sample["image"].shape[:2], self.min_size, self.max_size, rng)
        boxes = sample.get("gt_bbox", np.zeros((0, 4), dtype=np.float32))
        moved = boxes - np.array([x1, y1, x1, y1], dtype=np.float32)
        _, inside = clip_to_image(moved, y2 - y1, x2 - x1)
        if len(boxes) and not inside.any() and not self.keep_empty:
            return sample
        return crop_sample(sample, window, inside)

    def keep_largest(self) -> bool:
        had = self.min_size < self.max_size
        self.min_size = self.max_size
        return had


@register
@serializable
class RandomResizeCrop(Transform):
    """Resizes the image to a random size, and then crops it to a window of a random size that overlaps a box enough.

    Boxes whose center is outside of the window are dropped. An image without boxes, or one for which no window is
    found, is resized but not cropped. With resizes [400, 500, 600] and cropsizes [[384, 600]] it makes DETR's sizes.

    The IoU of a window with a small object is near 0, so that no window reaches the thresholds: for small objects, set
    ioumode to "iof", or thresholds to [0].

    Args:
        resizes: sizes, one of which is drawn: each one number for both sides, or two. What they mean is said by `mode`;
            without keep_ratio, they are (height, width).
        cropsizes: pairs [smallest, largest] in pixels, one of which is drawn. The sides of the window are drawn between
            the two, independently. A side of the image that is shorter than that stays whole.
        prob: probability of changing the image at all.
        mode: with keep_ratio, "short" scales the image until its short side is at least the smaller number of the size
            and its long side at least the larger one; "long" scales it until none of the two is more.
        keep_ratio: whether the ratio of width to height stays.
        interp: OpenCV's number of the interpolation, as in Resize.
        num_attempts: number of windows tried for each threshold.
        cover_all_box: require the overlap with every box instead of with one.
        allow_no_crop: make "do not crop" one of the choices beside the thresholds.
        thresholds: minimal overlap of the window with a box, each from 0 to 1, at least one. They are tried in random
            order until a window is found.
        is_mask_crop: false, since data sets have no masks here.
        ioumode: the overlap: "iou", or "iof" for the share of the box that is inside the window.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "Permute"

    def __init__(
        self,
        *,
        resizes: Sequence[int | Sequence[int]],
        cropsizes: Sequence[int | Sequence[int]],
        prob: float = 0.5,
        mode: Literal["short", "long"] = "short",
        keep_ratio: bool = True,
        interp: int = cv2.INTER_LINEAR,
        num_attempts: int = 3,
        cover_all_box: bool = False,
        allow_no_crop: bool = False,
        thresholds: Sequence[float] = (0.3, 0.5, 0.7),
        is_mask_crop: bool = False,
        ioumode: Literal["iou", "iof"] = "iou",
    ) -> None:
        check_probability(prob, "RandomResizeCrop.prob")
        require_choice("RandomResizeCrop.mode", mode, ("short", "long"))
        require_choice("RandomResizeCrop.ioumode", ioumode, ("iou", "iof"))
        if is_mask_crop:
            raise ValueError("RandomResizeCrop.is_mask_crop is true, but there are no masks to crop here: remove it")
        check_windows("RandomResizeCrop", num_attempts, thresholds)
        self.resizes, self.cropsizes = (
            [as_pair(size, f"RandomResizeCrop.{name}") for size in check_sizes(sizes, f"RandomResizeCrop.{name}")]
            for name, sizes in (("resizes", resizes), ("cropsizes", cropsizes))
        )
        self.prob = prob
        self.mode = mode
        self.keep_ratio = keep_ratio
        self.interp = check_interpolation(interp, "RandomResizeCrop.interp")
        self.num_attempts = num_attempts
        self.cover_all_box = cover_all_box
        self.choices: list[float | None] = [*thresholds, *([None] if allow_no_crop else [])]
        self.ioumode = ioumode

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        target = self.resizes[int(rng.integers(len(self.resizes)))]
        sides = self.cropsizes[int(rng.integers(len(self.cropsizes)))]
        size = sample["image"].shape[:2]
        new_size = self._new_size(size, target)
        require_size(sample, "RandomResizeCrop: the image resized to resizes", new_size)
        return self._crop(resize_sample(sample, new_size, self.interp, size), sides, rng)

    def keep_largest(self) -> bool:
        self.prob = float(self.prob > 0)
        self.resizes = [max(self.resizes, key=math.prod)]
        self.choices = [None]  # an image for which no window is found stays whole
        return self.prob > 0

    def _new_size(self, size: Size, target: Size) -> Size:
        if not self.keep_ratio:
            return target
        short, long = min(target) / min(size), max(target) / max(size)
        scale = max(short, long) if self.mode == "short" else min(short, long)
        return max(1, int(scale * size[0] + 0.5)), max(1, int(scale * size[1] + 0.5))

    def _crop(self, sample: dict, sides: Size, rng: np.random.Generator) -> dict:
        """Crop to a window with sides from sides[0] to sides[1] pixels."""
        boxes, size = sample.get("gt_bbox", ()), sample["image"].shape[:2]
        for i in rng.permutation(len(self.choices)) if len(boxes) else ():
            threshold = self.choices[i]
            if threshold is None:
                return sample
            window = find_window(
                boxes,
                lambda: draw_window(size, min(sides), max(sides), rng),
                threshold=threshold,
                num_attempts=self.num_attempts,
                cover_all_box=self.cover_all_box,
                of_box=self.ioumode == "iof",
            )
            if window is not None:
                return crop_sample(sample, window, has_center_inside(boxes, window))
        return sample


def draw_window(size: Size, smallest: int, largest: int, rng: np.random.Generator) -> Area:
    """Draw a window in an image of `size` (h, w) whose sides are uniform between two numbers of pixels.

    A side of the image that is below `smallest` stays whole.
    """
    h, w = (int(rng.integers(min(smallest, side), min(largest, side) + 1)) for side in size)
    y, x = int(rng.integers(size[0] - h + 1)), int(rng.integers(size[1] - w + 1))
    return x, y, x + w, y + h
