"""Strong augmentation of semi-supervised training: pixel values change, boxes and sizes never do.

The defaults are those of DenseTeacher's published configurations, which follow Liu et al., arXiv:2102.09480.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.color import color_map

ERASING_ATTEMPTS = 10  # rectangles drawn until one fits
STRIP_PIXELS = 2**15  # turned at a time: their floats stay in the processor's cache


@register
@serializable
class StrongAugImage:
    """`transforms` one after the other, for an `image` (H, W, 3) RGB uint8.

    Each must change pixel values only (`pixels_only`), since the boxes of a weakly augmented view of the same
    image apply to this one; any other raises ValueError.
    """

    __inject__ = ["transforms"]
    pixels_only = True

    def __init__(self, *, transforms: Sequence[Callable]) -> None:
        for transform in transforms:
            if not getattr(transform, "pixels_only", False):
                raise ValueError(
                    f"StrongAugImage.transforms has {type(transform).__name__}, expected only transforms of pixel "
                    "values, which leave boxes alone (pixels_only): list it outside of StrongAugImage"
                )
        self.transforms = list(transforms)
        self.keeps_uint8 = all(getattr(transform, "keeps_uint8", False) for transform in transforms)

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if sample["image"].dtype != np.uint8:
            raise TypeError(f"StrongAugImage got a {sample['image'].dtype} image: list it before NormalizeImage")
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


@register
@serializable
class RandomColorJitter:
    """Random brightness, contrast, saturation and hue of a uint8 RGB image, in random order.

    Args:
        prob: probability to do anything.
        brightness: largest change b of the factor of the value, which is uniform in [max(0, 1 - b), 1 + b].
        contrast: the same of the factor of the distance to the image's mean grey.
        saturation: the same of the factor of the distance to the pixel's grey.
        hue: largest turn of the hue of HSV either way, 0 to 0.5 of the circle of colours.

    Values are rounded and clipped to 0..255 after each of the four.
    """

    keeps_uint8 = pixels_only = True

    def __init__(
        self,
        *,
        prob: float = 0.8,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
    ) -> None:
        _check_probability(prob, "RandomColorJitter.prob")
        self.prob = prob
        self.changes = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, change in self.changes.items():
            if not 0 <= change < np.inf:
                raise ValueError(f"RandomColorJitter.{name} is {change}, expected a number of at least 0")
        if hue > 0.5:
            raise ValueError(f"RandomColorJitter.hue is {hue}, expected 0 to 0.5, half of the circle of colours")

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        image = sample["image"]
        names = [name for name, change in self.changes.items() if change]
        for i in rng.permutation(len(names)):
            change = self.changes[names[i]]
            if names[i] == "hue":
                image = _turn_hue(image, rng.uniform(-change, change))
            else:
                factor = rng.uniform(max(0.0, 1 - change), 1 + change)
                matrix, offset = color_map(names[i], factor, np.array(cv2.mean(image)[:3]))
                image = cv2.transform(image, np.column_stack([matrix, offset]))
        sample["image"] = image
        return sample


@register
@serializable
class RandomErasingCrop:
    """Fills random rectangles with noise: every value of every pixel uniform in 0..255.

    Args:
        prob: probability of each rectangle.
        area: range of each rectangle's area relative to the image's, uniform.
        aspect: range of each rectangle's height / width, uniform in its logarithm.

    Each is a list with one entry per rectangle. One that does not fit is drawn again, and left out after 10
    attempts. They may overlap.
    """

    keeps_uint8 = pixels_only = True

    def __init__(
        self,
        *,
        prob: Sequence[float] = (0.7, 0.5, 0.3),
        area: Sequence[Sequence[float]] = ((0.05, 0.2), (0.05, 0.2), (0.05, 0.2)),
        aspect: Sequence[Sequence[float]] = ((0.3, 3.3), (0.1, 6.0), (0.05, 8.0)),
    ) -> None:
        if not len(prob) == len(area) == len(aspect):
            raise ValueError(
                f"RandomErasingCrop has {len(prob)} prob, {len(area)} area and {len(aspect)} aspect, "
                "expected one of each per rectangle"
            )
        for i in range(len(prob)):
            _check_probability(prob[i], f"RandomErasingCrop.prob.{i}")
            _check_range(area[i], 1, f"RandomErasingCrop.area.{i}")
            _check_range(aspect[i], np.inf, f"RandomErasingCrop.aspect.{i}")
        self.rectangles = list(zip(prob, area, aspect))

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        image = sample["image"]
        windows = [_draw_window(*image.shape[:2], *rectangle, rng) for rectangle in self.rectangles]
        if any(windows):
            sample["image"] = image = image.copy()
        for y, x, h, w in filter(None, windows):
            image[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        return sample


@register
@serializable
class RandomGaussianBlur:
    """Blurs with probability `prob`, with a standard deviation uniform in `sigma` [low, high], in pixels."""

    keeps_uint8 = pixels_only = True

    def __init__(self, *, prob: float = 0.5, sigma: Sequence[float] = (0.1, 2.0)) -> None:
        _check_probability(prob, "RandomGaussianBlur.prob")
        _check_range(sigma, np.inf, "RandomGaussianBlur.sigma")
        self.prob = prob
        self.sigma = sigma

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() < self.prob:
            # Size (0, 0): OpenCV cuts the kernel off at three standard deviations.
            sample["image"] = cv2.GaussianBlur(sample["image"], (0, 0), rng.uniform(*self.sigma))
        return sample


@register
@serializable
class RandomGrayscale:
    """Puts the grey of ITU-R BT.601 in all three channels with probability `prob`."""

    keeps_uint8 = pixels_only = True

    def __init__(self, *, prob: float = 0.2) -> None:
        _check_probability(prob, "RandomGrayscale.prob")
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() < self.prob:
            grey = cv2.cvtColor(sample["image"], cv2.COLOR_RGB2GRAY)
            sample["image"] = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
        return sample


def _turn_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """`image` (H, W, 3) RGB uint8 with H of HSV moved by `turn` of the circle.

    In floats: a whole number of 0..255 for H would move pure colours by up to 3 levels.
    """
    result = np.empty_like(image)
    rows = max(1, STRIP_PIXELS // image.shape[1])
    for y in range(0, len(image), rows):
        hsv = cv2.cvtColor(image[y : y + rows].astype(np.float32), cv2.COLOR_RGB2HSV)
        hsv[..., 0] += turn * 360 % 360  # OpenCV takes hues past 360, but none below 0
        result[y : y + rows] = cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return result


def _draw_window(
    image_h: int,
    image_w: int,
    prob: float,
    area: Sequence[float],
    aspect: Sequence[float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    """y, x, h, w of a rectangle inside of the image; None where there is to be none, or none fits."""
    if rng.random() >= prob:
        return None
    for _ in range(ERASING_ATTEMPTS):
        pixels = image_h * image_w * rng.uniform(*area)
        ratio = np.exp(rng.uniform(*np.log(aspect)))
        h, w = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
        if 1 <= h <= image_h and 1 <= w <= image_w:
            return int(rng.integers(image_h - h + 1)), int(rng.integers(image_w - w + 1)), h, w
    return None


def _check_probability(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}, expected a probability from 0 to 1")


def _check_range(value: Sequence[float], limit: float, name: str) -> None:
    if len(value) != 2 or not 0 < value[0] <= value[1] <= limit or value[1] == np.inf:
        most = "" if limit == np.inf else f", at most {limit}"
        raise ValueError(f"{name} is {list(value)}, expected [low, high] above 0{most}")
