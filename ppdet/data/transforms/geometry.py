"""Resizing and flipping."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability, check_range
from ppdet.utils.ranges import require_pixels

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
Size = tuple[int, int]


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
            target_size = _require_input_size(input_size, "Resize")
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


@register
@serializable
class RandomResize(Transform):
    """Resizes each sample to a random size.

    Args:
        target_size: with random_size, a list of sizes, each like Resize's target_size; one of them is drawn. With
            random_range, two sizes [[short, long], [short, long]]: the short side is drawn from the integers between
            the two short numbers, and the long side is at most the larger of the two long ones. With neither, one size.
        keep_ratio: as in Resize.
        interp: as in Resize.
        random_range: see target_size.
        random_size: see target_size.
        scale_range: [low, high]; both numbers of the size are multiplied by a factor that is uniform in this range and
            drawn for every sample. With target_size 1025, random_size false and [0.8, 1], images are resized to fit
            into squares of 820 to 1025 pixels.
        input_size: the global setting, which replaces a target_size that is not set.
        scales: factors of input_size, one for each size: input_size [240, 320] and scales [0.8, 1] are the sizes
            [[192, 256], [240, 320]].
    """

    __shared__ = ["input_size"]
    keeps_uint8 = True
    listed_before = "Permute"

    def __init__(
        self,
        *,
        target_size: int | Sequence[int | Sequence[int]] | None = None,
        keep_ratio: bool = True,
        interp: int = cv2.INTER_LINEAR,
        random_range: bool = False,
        random_size: bool = True,
        scale_range: Sequence[float] | None = None,
        input_size: int | Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
    ) -> None:
        name = "RandomResize.target_size"
        if target_size is None:
            scaled = scaled_sizes(input_size, scales, "RandomResize")
            target_size = scaled if random_range or random_size else scaled[0]
        elif scales is not None:
            raise ValueError("RandomResize: scales are factors of the global setting input_size: unset target_size")
        if random_range:
            pairs = [as_pair(size, name) for size in check_sizes(target_size, name)]
            if len(pairs) != 2:
                raise ValueError(f"{name}: random_range needs two sizes [[short, long], [short, long]]")
            low, high = sorted(min(size) for size in pairs)
            long_side = max(max(size) for size in pairs)
            self.sizes = [(short, long_side) for short in range(low, high + 1)]
        elif random_size:
            self.sizes = [as_pair(size, name) for size in check_sizes(target_size, name)]
        else:
            self.sizes = [as_pair(target_size, name)]
        self.scale_range = None if scale_range is None else check_range(scale_range, "RandomResize.scale_range")
        self.keep_ratio = keep_ratio
        self.interp = check_interpolation(interp, "RandomResize.interp")
        if self.scale_range is not None:
            highest = self.scale_range[1]
            for height, width in self.sizes:
                require_pixels("RandomResize: a size times scale_range", height * highest, width * highest)

    def __call__(self, sample: dict, rng: np.random.Generator, size: Size | None = None) -> dict:
        """Resize a sample; `size` as in Resize."""
        target_size = self.sizes[int(rng.integers(len(self.sizes)))]
        factor = rng.uniform(*self.scale_range) if self.scale_range else 1.0
        return self._resize(target_size, factor)(sample, rng, size)

    def new_size(self, h: int, w: int) -> Size:
        """The largest (h, w) to which an image of h x w pixels may be resized."""
        pairs = [sorted(size) for size in self.sizes] if self.keep_ratio else self.sizes
        factor = self.scale_range[1] if self.scale_range else 1.0
        largest = (max(pair[0] for pair in pairs), max(pair[1] for pair in pairs))
        return self._resize(largest, factor).new_size(h, w)

    def keep_largest(self) -> bool:
        had = len(self.sizes) > 1 or self.scale_range is not None
        self.sizes = [max(self.sizes, key=math.prod)]
        self.scale_range = self.scale_range and (self.scale_range[1],) * 2
        return had

    def _resize(self, target_size: Size, factor: float) -> Resize:
        size = [max(1, round(side * factor)) for side in target_size]
        return Resize(target_size=size, keep_ratio=self.keep_ratio, interp=self.interp)


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


@register
@serializable
class RandomFlip(Transform):
    """Flips the image and its boxes horizontally, at random.

    Args:
        prob: probability of a flip, from 0 to 1.
    """

    keeps_uint8 = moves_pixels = True
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


def as_pair(size: Any, name: str) -> Size:
    """Return a size that is given as one number or two as a pair; ValueError naming the parameter for anything else."""
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"{name} is {size!r:.60}, expected one or two positive integers")
    require_pixels(name, *pair)
    return pair[0], pair[1]


def _require_input_size(input_size: int | Sequence[int] | None, transform: str) -> int | Sequence[int]:
    if input_size is None:
        raise ValueError(f"{transform} has no target_size: set it, or input_size for all transforms that have none")
    return input_size


def scaled_sizes(input_size: int | Sequence[int] | None, scales: Sequence[float] | None, transform: str) -> list[Size]:
    """Return the sizes that are `scales` (null: the factor 1 alone) times the global setting input_size.

    Raises:
        ValueError: there is no input_size, or a factor is out of range; the message names the transform.
    """
    h, w = as_pair(_require_input_size(input_size, transform), "input_size")
    factors = [1.0] if scales is None else scales
    if not len(factors) or not all(0 < scale < np.inf for scale in factors):
        raise ValueError(f"{transform}.scales is {list(factors)}, expected factors above 0")
    for scale in factors:
        require_pixels(f"{transform}: input_size times scales", h * scale, w * scale)
    return [(max(1, int(h * scale + 0.5)), max(1, int(w * scale + 0.5))) for scale in factors]


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
