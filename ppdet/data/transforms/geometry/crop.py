"""Random crops and random borders, as in SSD (Liu et al., arXiv:1512.02325, section 2.2)."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_color, check_probability, check_range, check_some
from ppdet.data.transforms.box_fields import Area, select_boxes
from ppdet.data.transforms.geometry.resize import require_size
from ppdet.utils.boxes import pairwise_overlap
from ppdet.utils.ranges import require_number

MAX_WINDOWS = 10_000  # windows tried for one image, at all thresholds together
MAX_EXPANSION = 20.0


@register
@serializable
class RandomCrop(Transform):
    """Crops the image to a random window that overlaps a box enough. Boxes whose center is outside are dropped.

    Args:
        aspect_ratio: range of width / height of the window, relative to the image's. null: both sides are drawn
            independently, and windows more than twice as long as wide are rejected.
        thresholds: minimal IoU of the window with a box, each from 0 to 1, at least one. They are tried in random order
            until a window is found.
        scaling: range of the window's side relative to the image's, above 0 and at most 1.
        num_attempts: number of windows tried for each threshold.
        allow_no_crop: make "do not crop" one of the choices beside the thresholds.
        cover_all_box: require the IoU with every box instead of with one.
        prob: probability of cropping at all.
    """

    keeps_uint8 = moves_pixels = moves_objects = True
    listed_before = "Permute"

    def __init__(
        self,
        *,
        aspect_ratio: Sequence[float] | None = (0.5, 2.0),
        thresholds: Sequence[float] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9),
        scaling: Sequence[float] = (0.3, 1.0),
        num_attempts: int = 50,
        allow_no_crop: bool = True,
        cover_all_box: bool = False,
        prob: float = 1.0,
    ) -> None:
        check_probability(prob, "RandomCrop.prob")
        check_windows("RandomCrop", num_attempts, thresholds)
        self.scaling = check_range(scaling, "RandomCrop.scaling", most=1)
        self.aspect_ratio = None if aspect_ratio is None else check_range(aspect_ratio, "RandomCrop.aspect_ratio")
        self.thresholds = list(thresholds)
        self.num_attempts = num_attempts
        self.allow_no_crop = allow_no_crop
        self.cover_all_box = cover_all_box
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob or not len(sample.get("gt_bbox", ())):
            return sample
        boxes, size = sample["gt_bbox"], sample["image"].shape[:2]
        choices: list[float | None] = [*self.thresholds, *([None] if self.allow_no_crop else [])]
        for i in rng.permutation(len(choices)):
            threshold = choices[i]
            if threshold is None:
                return sample
            window = find_window(
                boxes,
                lambda: self._draw_window(size, rng),
                threshold=threshold,
                num_attempts=self.num_attempts,
                cover_all_box=self.cover_all_box,
            )
            if window is not None:
                return crop_sample(sample, window, has_center_inside(boxes, window))
        return sample

    def _draw_window(self, size: tuple[int, int], rng: np.random.Generator) -> Area | None:
        h, w = size
        scale = rng.uniform(*self.scaling)
        if self.aspect_ratio is not None:
            # The ratio is limited so that neither side of the window exceeds the image's.
            low, high = max(self.aspect_ratio[0], scale**2), min(self.aspect_ratio[1], scale**-2)
            root = np.sqrt(rng.uniform(low, high)) if low < high else 1.0
            crop_h, crop_w = int(h * scale / root), int(w * scale * root)
        else:
            crop_h, crop_w = int(h * scale), int(w * rng.uniform(*self.scaling))
            if not 0.5 <= crop_h / max(crop_w, 1) <= 2.0:
                return None
        crop_h, crop_w = min(max(crop_h, 1), h), min(max(crop_w, 1), w)
        y, x = int(rng.integers(h - crop_h + 1)), int(rng.integers(w - crop_w + 1))
        return x, y, x + crop_w, y + crop_h


@register
@serializable
class RandomExpand(Transform):
    """Puts the image at a random position on a canvas that is up to `ratio` times as high and as wide.

    Args:
        ratio: largest factor of the sides, above 1. The factor is uniform between 1 and `ratio`.
        prob: probability of expanding the image.
        fill_value: color of the canvas, one number or three (RGB), from 0 to 255.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"

    def __init__(
        self, *, ratio: float = 4.0, prob: float = 0.5, fill_value: float | Sequence[float] = (127.5, 127.5, 127.5)
    ) -> None:
        require_number("RandomExpand.ratio", ratio, above=1, maximum=MAX_EXPANSION)
        check_probability(prob, "RandomExpand.prob")
        self.ratio = ratio
        self.prob = prob
        self.fill_value = check_color(fill_value, "RandomExpand.fill_value")

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        image = sample["image"]
        h, w = image.shape[:2]
        ratio = rng.uniform(1.0, self.ratio)
        new_h, new_w = int(h * ratio), int(w * ratio)
        require_size(sample, "RandomExpand: the canvas of the image", (new_h, new_w))
        y, x = int(rng.integers(new_h - h + 1)), int(rng.integers(new_w - w + 1))
        canvas = np.empty((new_h, new_w, 3), dtype=image.dtype)
        canvas[:] = np.array(self.fill_value, dtype=np.float32).astype(image.dtype)
        canvas[y : y + h, x : x + w] = image
        sample["image"] = canvas
        sample["im_shape"] = np.array([new_h, new_w], dtype=np.float32)
        if "gt_bbox" in sample:
            sample["gt_bbox"] = sample["gt_bbox"] + np.array([x, y, x, y], dtype=np.float32)
        return sample


def check_windows(transform: str, num_attempts: int, thresholds: Sequence[float]) -> None:
    """Raise ValueError unless there are thresholds from 0 to 1, with at most MAX_WINDOWS attempts at all of them."""
    require_number(f"{transform}.num_attempts", num_attempts, minimum=1, maximum=MAX_WINDOWS)
    check_some(thresholds, f"{transform}.thresholds", "at least one overlap from 0 to 1: set prob to 0 for no crop")
    require_number(f"{transform}: the number of thresholds", len(thresholds), maximum=MAX_WINDOWS // num_attempts)
    for i, threshold in enumerate(thresholds):
        check_probability(threshold, f"{transform}.thresholds.{i}")


def find_window(
    boxes: np.ndarray,
    draw: Callable[[], Area | None],
    *,
    threshold: float,
    num_attempts: int,
    cover_all_box: bool,
    of_box: bool = False,
) -> Area | None:
    """Draw windows until one overlaps the boxes (M, 4) by `threshold` and has the center of a box inside.

    Args:
        draw: draws a window, or None for one that is not to be tried.
        threshold: minimal IoU with one box.
        cover_all_box: require it of all boxes.
        of_box: use the share of the box that is inside the window in place of the IoU.

    Returns:
        The window, or None after `num_attempts` windows.
    """
    for _ in range(num_attempts):
        window = draw()
        if window is None:
            continue
        overlaps = _shares_inside(boxes, window) if of_box else pairwise_overlap(boxes, np.array([window], np.float64))
        overlap = overlaps.min() if cover_all_box else overlaps.max()
        if overlap >= threshold and has_center_inside(boxes, window).any():
            return window
    return None


def crop_sample(sample: dict, window: Area, kept: np.ndarray) -> dict:
    """Crop a sample to a window; of its boxes, only those with `kept` (M,) stay, clipped to the window."""
    x1, y1, x2, y2 = window
    sample["image"] = np.ascontiguousarray(sample["image"][y1:y2, x1:x2])
    sample["im_shape"] = np.array([y2 - y1, x2 - x1], dtype=np.float32)
    sample = select_boxes(sample, kept)
    if "gt_bbox" in sample:
        limits = np.array([x2 - x1, y2 - y1] * 2, dtype=np.float32)
        sample["gt_bbox"] = np.clip(sample["gt_bbox"] - np.array([x1, y1, x1, y1], dtype=np.float32), 0, limits)
    return sample


def has_center_inside(boxes: np.ndarray, window: Area) -> np.ndarray:
    """(M,) whether the center of each box (M, 4) is inside the window."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centers > window[:2]) & (centers < window[2:])).all(axis=1)


def _shares_inside(boxes: np.ndarray, window: Area) -> np.ndarray:
    """(M,) share of the area of each box (M, 4) that is inside the window; 0 for a box without area."""
    inner = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    shared, whole = np.maximum(inner, 0).prod(axis=1), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
