"""Strong augmentation for semi-supervised training: pixel values change, boxes and sizes do not.

The defaults come from DenseTeacher's published configurations, which follow Liu et al., arXiv:2102.09480.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import (
    Transform,
    check_probability,
    check_range,
    check_some,
    has_property,
    refuse_several,
    require_uint8,
)
from ppdet.data.transforms.composing.order import check_order
from ppdet.data.transforms.pixels.color import color_map
from ppdet.utils.ranges import require_number

MAX_RECTANGLES = 1000
MAX_SIGMA = 100.0  # pixels
ERASING_ATTEMPTS = 10  # rectangles drawn until one fits into the image
STRIP_PIXELS = 2**15  # converted at a time, so that their floats stay in the processor's cache


@register
@serializable
class StrongAugImage(Transform):
    """Applies `transforms` in turn to an `image` (H, W, 3) RGB uint8.

    Each must change pixel values only (`pixels_only`), because the boxes of a weakly augmented view of the same image
    are used for the result. Any other transform is a ValueError.

    Args:
        transforms: the transforms, at least one, in the order in which they are applied.
    """

    __inject__ = ["transforms"]
    pixels_only = True
    listed_before = "NormalizeImage"

    def __init__(self, *, transforms: Sequence[Callable]) -> None:
        name = "StrongAugImage.transforms"
        check_some(transforms, name, "at least one transform: leave StrongAugImage out for views that are alike")
        refuse_several(transforms, name)
        for transform in transforms:
            if not has_property(transform, "pixels_only"):
                raise ValueError(
                    f"{name} has {type(transform).__name__}, expected only transforms that change "
                    "nothing but pixel values (pixels_only): list it outside of StrongAugImage"
                )
        check_order(transforms, name)
        self.members = list(transforms)
        self.keeps_uint8 = all(has_property(transform, "keeps_uint8") for transform in transforms)

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        require_uint8(sample, "StrongAugImage")
        for transform in self.members:
            sample = transform(sample, rng)
        return sample


@register
@serializable
class RandomColorJitter(Transform):
    """Randomly changes brightness, contrast, saturation and hue of a uint8 RGB image, in random order.

    Values are rounded and clipped to 0..255 after each of the four.

    Args:
        prob: probability of changing the image at all.
        brightness: b, where all values are multiplied by a factor that is uniform in [max(0, 1 - b), 1 + b].
        contrast: the same for the factor of a pixel's distance to the image's mean gray.
        saturation: the same for the factor of a pixel's distance to its own gray.
        hue: largest rotation of the hue of HSV in either direction, 0 to 0.5, where 1 is the full circle.
    """

    keeps_uint8 = pixels_only = True
    listed_before = "NormalizeImage"

    def __init__(
        self,
        *,
        prob: float = 0.8,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
    ) -> None:
        check_probability(prob, "RandomColorJitter.prob")
        self.prob = prob
        self.changes = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, change in self.changes.items():
            if not 0 <= change < np.inf:
                raise ValueError(f"RandomColorJitter.{name} is {change}, expected a number of at least 0")
        if hue > 0.5:
            raise ValueError(f"RandomColorJitter.hue is {hue}, expected 0 to 0.5, half of the circle of colors")

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        image = sample["image"]
        names = [name for name, change in self.changes.items() if change]
        for i in rng.permutation(len(names)):
            change = self.changes[names[i]]
            if names[i] == "hue":
                image = _rotate_hue(image, rng.uniform(-change, change))
            else:
                factor = rng.uniform(max(0.0, 1 - change), 1 + change)
                matrix, offset = color_map(names[i], factor, np.array(cv2.mean(image)[:3]))
                image = cv2.transform(image, np.column_stack([matrix, offset]))
        sample["image"] = image
        return sample


@register
@serializable
class RandomErasingCrop(Transform):
    """Fills random rectangles with noise: each channel of each pixel is uniform in 0..255.

    The three parameters are lists with one entry for each rectangle. Rectangles may overlap. One that does not fit into
    the image is drawn again, and left out after 10 attempts.

    Args:
        prob: probability of each rectangle.
        area: [low, high] of each rectangle's area relative to the image's; the area is uniform between them.
        aspect: [low, high] of each rectangle's height / width, whose logarithm is uniform.
    """

    keeps_uint8 = pixels_only = True
    listed_before = "NormalizeImage"

    def __init__(
        self,
        *,
        prob: Sequence[float] = (0.7, 0.5, 0.3),
        area: Sequence[Sequence[float]] = ((0.05, 0.2), (0.05, 0.2), (0.05, 0.2)),
        aspect: Sequence[Sequence[float]] = ((0.3, 3.3), (0.1, 6.0), (0.05, 8.0)),
    ) -> None:
        check_some(prob, "RandomErasingCrop.prob", "a probability for every rectangle")
        if not len(prob) == len(area) == len(aspect):
            raise ValueError(
                f"RandomErasingCrop has {len(prob)} prob, {len(area)} area and {len(aspect)} aspect, "
                "expected one of each for every rectangle"
            )
        require_number("RandomErasingCrop: the number of rectangles", len(prob), maximum=MAX_RECTANGLES)
        self.rectangles = []
        for i in range(len(prob)):
            check_probability(prob[i], f"RandomErasingCrop.prob.{i}")
            areas = check_range(area[i], f"RandomErasingCrop.area.{i}", most=1)
            aspects = check_range(aspect[i], f"RandomErasingCrop.aspect.{i}")
            self.rectangles.append((prob[i], areas, aspects))

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        image = sample["image"]
        h, w = image.shape[:2]
        rectangles = [
            _draw_rectangle(h, w, area, aspect, rng) if rng.random() < prob else None
            for prob, area, aspect in self.rectangles
        ]
        if any(rectangles):
            sample["image"] = image = image.copy()
        for y, x, height, width in filter(None, rectangles):
            image[y : y + height, x : x + width] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        return sample


@register
@serializable
class RandomGaussianBlur(Transform):
    """Blurs the image with probability `prob`.

    Args:
        prob: probability of blurring.
        sigma: [low, high] of the standard deviation in pixels, which is uniform between them.
    """

    keeps_uint8 = pixels_only = True
    listed_before = "Permute"

    def __init__(self, *, prob: float = 0.5, sigma: Sequence[float] = (0.1, 2.0)) -> None:
        check_probability(prob, "RandomGaussianBlur.prob")
        self.prob = prob
        self.sigma = check_range(sigma, "RandomGaussianBlur.sigma", most=MAX_SIGMA)

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() < self.prob:
            # With size (0, 0), OpenCV's kernel ends at three standard deviations.
            sample["image"] = cv2.GaussianBlur(sample["image"], (0, 0), rng.uniform(*self.sigma))
        return sample


@register
@serializable
class RandomGrayscale(Transform):
    """Replaces all three channels by gray (ITU-R BT.601), at random.

    Args:
        prob: probability of a gray image, from 0 to 1.
    """

    keeps_uint8 = pixels_only = True
    listed_before = "NormalizeImage"

    def __init__(self, *, prob: float = 0.2) -> None:
        check_probability(prob, "RandomGrayscale.prob")
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() < self.prob:
            gray = cv2.cvtColor(sample["image"], cv2.COLOR_RGB2GRAY)
            sample["image"] = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
        return sample


def _rotate_hue(image: np.ndarray, rotation: float) -> np.ndarray:
    """Rotate the hue (H of HSV) of an image (H, W, 3) RGB uint8; `rotation` 1 is the full circle.

    It is computed in floats: an integer hue of 0..255 would change pure colors by up to 3 levels.
    """
    result = np.empty_like(image)
    rows = max(1, STRIP_PIXELS // image.shape[1])
    for y in range(0, len(image), rows):
        hsv = cv2.cvtColor(image[y : y + rows].astype(np.float32), cv2.COLOR_RGB2HSV)
        hsv[..., 0] += rotation * 360 % 360  # OpenCV accepts hues above 360, but none below 0
        result[y : y + rows] = cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return result


def _draw_rectangle(
    image_h: int, image_w: int, area: tuple[float, float], aspect: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Draw y, x, height, width of a rectangle inside of the image; None if none fits."""
    for _ in range(ERASING_ATTEMPTS):
        pixels = image_h * image_w * rng.uniform(*area)
        low, high = np.log(aspect)
        ratio = np.exp(rng.uniform(low, high))
        h, w = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
        if 1 <= h <= image_h and 1 <= w <= image_w:
            return int(rng.integers(image_h - h + 1)), int(rng.integers(image_w - w + 1)), h, w
    return None
