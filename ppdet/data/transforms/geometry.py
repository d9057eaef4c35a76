"""Resizing and flipping."""

from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable

INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


def box_limits(image: np.ndarray) -> np.ndarray:
    """(w, h, w, h) float32: what x1, y1, x2, y2 may at most be in an (H, W, C) image."""
    h, w = image.shape[:2]
    return np.array([w, h, w, h], dtype=np.float32)


@register
@serializable
class Resize:
    """Resizes `image` (H, W, 3) and `gt_bbox`; sets `im_shape`, multiplies `scale_factor`.

    Args:
        target_size: one number for both, or two. With keep_ratio, the largest scale at which the short side
            does not pass the smaller number and the long side does not pass the larger one; without, (h, w).
        input_size: the global setting, which stands in for a target_size that is not set.
        interp: OpenCV's number of the method: 0 nearest, 1 bilinear, 2 bicubic, 3 area, 4 Lanczos.

    The pixels keep their type: published models were trained on images resized as uint8.
    """

    __shared__ = ["input_size"]
    keeps_uint8 = True

    def __init__(
        self,
        *,
        target_size: int | Sequence[int] | None = None,
        keep_ratio: bool = True,
        interp: int = cv2.INTER_LINEAR,
        input_size: int | Sequence[int] | None = None,
    ) -> None:
        if target_size is None:
            target_size = _given(input_size, "Resize")
        self.target_size = as_pair(target_size, "Resize.target_size")
        self.keep_ratio = keep_ratio
        self.interp = _interpolation(interp, "Resize.interp")

    def __call__(
        self,
        sample: dict,
        rng: np.random.Generator | None = None,
        size: tuple[int, int] | None = None,
    ) -> dict:
        """`size`: (h, w) of the image that boxes and scale refer to, where it was decoded at reduced scale."""
        image = sample["image"]
        h, w = size or image.shape[:2]
        new_h, new_w = self.new_size(h, w)
        scale_y, scale_x = new_h / h, new_w / w
        sample["image"] = image = cv2.resize(image, (new_w, new_h), interpolation=self.interp)
        sample["im_shape"] = np.array([new_h, new_w], dtype=np.float32)
        before = sample.get("scale_factor", np.ones(2, dtype=np.float32))
        sample["scale_factor"] = before * np.array([scale_y, scale_x], dtype=np.float32)
        if "gt_bbox" in sample:
            scale = np.array([scale_x, scale_y, scale_x, scale_y], dtype=np.float32)
            sample["gt_bbox"] = np.clip(sample["gt_bbox"] * scale, 0, box_limits(image))
        return sample

    def new_size(self, h: int, w: int) -> tuple[int, int]:
        """The (h, w) that an image of h x w pixels gets."""
        if not self.keep_ratio:
            return self.target_size
        scale = min(min(self.target_size) / min(h, w), max(self.target_size) / max(h, w))
        # Rounded half up, and a side of a very long image does not vanish.
        return max(1, int(scale * h + 0.5)), max(1, int(scale * w + 0.5))


@register
@serializable
class RandomResize:
    """Resize to a size drawn for every sample.

    Args:
        target_size: with random_size, a list of sizes (each as Resize's target_size) of which one is drawn.
            With random_range, two sizes [[short, long], [short, long]]: the short side is drawn from the
            whole numbers between the two short sides, the long side may reach the larger of the two long
            ones. With neither, one size.
        input_size, scales: the global setting input_size stands in for a target_size that is not set, in each of these
            factors: with input_size [240, 320] and scales [0.8, 1], sizes are [[192, 256], [240, 320]].
        scale_range: [low, high], a factor of both numbers of the size, uniform in this range and drawn for every
            sample: with target_size 1025, random_size false and [0.8, 1], images fit into squares of 820 to 1025.
        keep_ratio, interp: as in Resize.
    """

    __shared__ = ["input_size"]
    keeps_uint8 = True

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
            sizes = _scaled(_given(input_size, "RandomResize"), [1.0] if scales is None else scales)
            target_size = sizes if random_range or random_size else sizes[0]
        elif scales is not None:
            raise ValueError("RandomResize: scales are factors of the global setting input_size: unset target_size")
        if random_range:
            sizes = [as_pair(size, name) for size in _sequence(target_size, name)]
            if len(sizes) != 2:
                raise ValueError(f"{name}: random_range needs two sizes [[short, long], [short, long]]")
            low, high = sorted(min(size) for size in sizes)
            long_side = max(max(size) for size in sizes)
            self.sizes = [(short, long_side) for short in range(low, high + 1)]
        elif random_size:
            self.sizes = [as_pair(size, name) for size in _sequence(target_size, name)]
        else:
            self.sizes = [as_pair(target_size, name)]
        if scale_range is not None and (len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1] < np.inf):
            raise ValueError(f"RandomResize.scale_range is {list(scale_range)}, expected [low, high] above 0")
        self.scale_range = scale_range
        self.keep_ratio = keep_ratio
        self.interp = _interpolation(interp, "RandomResize.interp")

    def __call__(self, sample: dict, rng: np.random.Generator, size: tuple[int, int] | None = None) -> dict:
        """`size`: as in Resize."""
        target_size = self.sizes[int(rng.integers(len(self.sizes)))]
        factor = rng.uniform(*self.scale_range) if self.scale_range else 1.0
        return self._resize(target_size, factor)(sample, rng, size)

    def new_size(self, h: int, w: int) -> tuple[int, int]:
        """The largest (h, w) that an image of h x w pixels can get."""
        pairs = [sorted(size) for size in self.sizes] if self.keep_ratio else self.sizes
        factor = self.scale_range[1] if self.scale_range else 1.0
        return self._resize(tuple(max(sides) for sides in zip(*pairs)), factor).new_size(h, w)

    def _resize(self, target_size: tuple[int, int], factor: float) -> Resize:
        size = [max(1, round(side * factor)) for side in target_size]
        return Resize(target_size=size, keep_ratio=self.keep_ratio, interp=self.interp)


@register
@serializable
class RandomFlip:
    """Mirrors left and right with probability `prob`."""

    keeps_uint8 = moves_pixels = True

    def __init__(self, *, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"RandomFlip.prob is {prob}, expected a probability from 0 to 1")
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


def _given(input_size: object | None, transform: str) -> object:
    if input_size is None:
        raise ValueError(f"{transform} has no target_size: set it, or input_size for all that have none")
    return input_size


def _scaled(size: object, scales: Sequence[float]) -> list[list[int]]:
    if not len(scales) or not all(0 < scale < np.inf for scale in scales):
        raise ValueError(f"RandomResize.scales is {list(scales)}, expected factors above 0")
    return [[max(1, int(side * scale + 0.5)) for side in as_pair(size, "input_size")] for scale in scales]


def _sequence(value: object, name: str) -> Sequence:
    if not isinstance(value, Sequence) or not len(value):
        raise ValueError(f"{name} is {value!r}, expected a list of sizes")
    return value


def as_pair(size: object, name: str) -> tuple[int, int]:
    """A size as two numbers, given as one or two."""
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise ValueError(f"{name} is {size!r}, expected one or two positive whole numbers")
    return pair[0], pair[1]


def _interpolation(value: int, name: str) -> int:
    if value not in INTERPOLATIONS:
        raise ValueError(f"{name} is {value!r}, expected 0 nearest, 1 bilinear, 2 bicubic, 3 area or 4 Lanczos")
    return value
