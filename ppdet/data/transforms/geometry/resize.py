"""Resizing: Resize, and the checks and functions that all transforms which resize share."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform
from ppdet.utils.errors import DataError
from ppdet.utils.ranges import require_pixels

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
Size = tuple[int, int]  # height, width


@register
@serializable
class Resize(Transform):
    """Resizes `image` (H, W, 3) and `gt_bbox`, sets `im_shape`, and multiplies `scale_factor`.

    Pixels keep their type: published models were trained on images that were resized as uint8.

    Args:
        target_size: one number for both sides, or two. With keep_ratio: the image is scaled as large as possible with
            its short side at most the smaller number and its long side at most the larger one, as [800, 1333] is
            meant. Without keep_ratio: (height, width) of the result.
        keep_ratio: whether the ratio of width to height stays.
        interp: OpenCV's number of the interpolation: 0 nearest, 1 bilinear, 2 bicubic, 3 area, 4 Lanczos.
        input_size: the global setting, which replaces a target_size that is not set.
    """

    __shared__ = ["input_size"]
    keeps_uint8 = True
    listed_before = "Permute"

    def __init__(
        self,
        *,
        target_size: int | Sequence[int] | None = None,
        keep_ratio: bool = True,
        interp: int = cv2.INTER_LINEAR,
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        if target_size is None:
            target_size = require_input_size(input_size, "Resize")
        self.target_size = as_pair(target_size, "Resize.target_size")
        self.keep_ratio = keep_ratio
        self.interp = check_interpolation(interp, "Resize.interp")

    def __call__(self, sample: dict, rng: np.random.Generator | None = None, size: Size | None = None) -> dict:
        """Resize a sample.

        Args:
            size: (h, w) to which boxes and scale refer, if the image was decoded at reduced scale; see DecodeAndResize.
        """
        h, w = size or sample["image"].shape[:2]
        return resize_sample(sample, self.new_size(h, w), self.interp, (h, w))

    def new_size(self, h: int, w: int) -> Size:
        """The (h, w) to which an image of h x w pixels is resized."""
        if not self.keep_ratio:
            return self.target_size
        scale = min(min(self.target_size) / min(h, w), max(self.target_size) / max(h, w))
        # Half a pixel is rounded up, and the short side of a very long image does not vanish.
        return max(1, int(scale * h + 0.5)), max(1, int(scale * w + 0.5))


def resize_sample(sample: dict, new_size: Size, interp: int, size: Size) -> dict:
    """Resize `image` and `gt_bbox` of a sample from (h, w) `size` to `new_size`; see Resize."""
    (h, w), (new_h, new_w) = size, new_size
    scale_y, scale_x = new_h / h, new_w / w
    sample["image"] = cv2.resize(sample["image"], (new_w, new_h), interpolation=interp)
    sample["im_shape"] = np.array([new_h, new_w], dtype=np.float32)
    before = sample.get("scale_factor", np.ones(2, dtype=np.float32))
    sample["scale_factor"] = before * np.array([scale_y, scale_x], dtype=np.float32)
    if "gt_bbox" in sample:
        scale = np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32)
        limits = np.array([new_w, new_h, new_w, new_h], dtype=np.float32)
        sample["gt_bbox"] = np.clip(sample["gt_bbox"] * scale, 0, limits)
    return sample


def as_pair(size: Any, name: str) -> Size:
    """Return a size that is given as one number or two as a pair; ValueError naming the parameter for anything else."""
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"{name} is {size!r:.60}, expected one or two positive integers")
    require_pixels(name, *pair)
    return pair[0], pair[1]


def require_size(sample: dict, name: str, size: tuple[float, float]) -> None:
    """Raise DataError naming the image of a sample if (h, w) `size`, which it would get, has too many pixels."""
    try:
        require_pixels(name, *size)
    except ValueError as error:
        raise DataError(f"{sample.get('im_file', 'an image')}: {error}") from None


def require_input_size(input_size: int | Sequence[int] | None, transform: str) -> Size:
    """Return the global setting input_size as a pair; ValueError if it is not set, or is no size."""
    if input_size is None:
        raise ValueError(f"{transform} has no target_size: set it, or input_size for all transforms that have none")
    return as_pair(input_size, "input_size")


def check_sizes(value: Any, name: str) -> Sequence:
    """Return a list of sizes; ValueError naming the parameter for an empty one or anything else."""
    if not isinstance(value, Sequence) or not len(value):
        raise ValueError(f"{name} is {value!r}, expected a list of sizes")
    return value


def check_interpolation(value: int, name: str) -> int:
    """Return OpenCV's number of an interpolation; ValueError naming the parameter for any other value."""
    if type(value) is not int or value not in INTERPOLATIONS:
        raise ValueError(f"{name} is {value!r:.60}, expected 0 nearest, 1 bilinear, 2 bicubic, 3 area or 4 Lanczos")
    return value


def draw_interpolation(rng: np.random.Generator) -> int:
    """Draw OpenCV's number of an interpolation."""
    return INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
