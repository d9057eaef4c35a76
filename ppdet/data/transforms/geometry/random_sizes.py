"""Resizing single images to random sizes."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_range
from ppdet.data.transforms.geometry.resize import (
    Resize,
    Size,
    as_pair,
    check_interpolation,
    check_sizes,
    draw_interpolation,
    require_input_size,
    require_size,
    resize_sample,
)
from ppdet.utils.ranges import require_number, require_pixels


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


@register
@serializable
class RandomShortSideResize(Transform):
    """Scales the image so that its short side has a random length, as in DETR (arXiv:2005.12872, section 4).

    Args:
        short_side_sizes: lengths of the short side in pixels, one of which is drawn.
        max_size: the long side has at most this many pixels: then the short side is shorter than drawn. null: any.
        interp: OpenCV's number of the interpolation, as in Resize.
        random_interp: draw the interpolation, from the five of `interp`.
    """

    keeps_uint8 = True
    listed_before = "Permute"

    def __init__(
        self,
        *,
        short_side_sizes: Sequence[int],
        max_size: int | None = None,
        interp: int = cv2.INTER_LINEAR,
        random_interp: bool = False,
    ) -> None:
        name = "RandomShortSideResize.short_side_sizes"
        self.short_sides = list(check_sizes(short_side_sizes, name))
        for side in self.short_sides:
            require_number(name, side, minimum=1)
            require_pixels(name, side, side)
        if max_size is not None:
            require_number("RandomShortSideResize.max_size", max_size, minimum=1)
        self.max_size = max_size
        self.interp = check_interpolation(interp, "RandomShortSideResize.interp")
        self.random_interp = random_interp

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        short = self.short_sides[int(rng.integers(len(self.short_sides)))]
        interp = draw_interpolation(rng) if self.random_interp else self.interp
        size = sample["image"].shape[:2]
        new_size = self._new_size(size, short)
        require_size(sample, "RandomShortSideResize: the image resized to short_side_sizes", new_size)
        return resize_sample(sample, new_size, interp, size)

    def keep_largest(self) -> bool:
        had = len(self.short_sides) > 1
        self.short_sides = [max(self.short_sides)]
        return had

    def _new_size(self, size: Size, short: int) -> Size:
        shorter, longer = min(size), max(size)
        long = round(short * longer / shorter)
        if self.max_size is not None and short * longer > self.max_size * shorter:
            short, long = max(1, self.max_size * shorter // longer), self.max_size
        return (short, long) if size[0] <= size[1] else (long, short)


def scaled_sizes(input_size: int | Sequence[int] | None, scales: Sequence[float] | None, transform: str) -> list[Size]:
    """Return the sizes that are `scales` (null: the factor 1 alone) times the global setting input_size.

    Raises:
        ValueError: there is no input_size, or a factor is out of range; the message names the transform.
    """
    h, w = require_input_size(input_size, transform)
    factors = [1.0] if scales is None else scales
    if not len(factors) or not all(0 < scale < np.inf for scale in factors):
        raise ValueError(f"{transform}.scales is {list(factors)}, expected factors above 0")
    for scale in factors:
        require_pixels(f"{transform}: input_size times scales", h * scale, w * scale)
    return [(max(1, int(h * scale + 0.5)), max(1, int(w * scale + 0.5))) for scale in factors]
