"""Random changes of an image's colors. Boxes are not touched."""

from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability
from ppdet.utils.ranges import require_number

LUMA = np.array([0.299, 0.587, 0.114])  # weights of R, G, B in gray, ITU-R BT.601
RGB_TO_YIQ = np.array([LUMA, [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)


@register
@serializable
class RandomDistort(Transform):
    """Randomly changes hue, saturation, contrast and brightness of a uint8 RGB image.

    All four are linear maps of RGB. Their product is applied at once, so that pixels are rounded only once.

    Args:
        hue: [low, high, probability] of a rotation in the I-Q plane of the YIQ color space, in degrees. Each value is
            uniform between low and high; this holds for the next three too.
        saturation: [low, high, probability] of the factor of a pixel's distance to its own gray.
        contrast: [low, high, probability] of the factor of a pixel's distance to the image's mean gray.
        brightness: [low, high, probability] of the factor of all values.
        random_apply: apply the four in random order. If false, brightness comes first, and contrast is randomly either
            second or last.
        count: apply at most this many of the four, the first ones of the order.
        random_channel: also shuffle the channels, with probability 0.5.
        prob: probability of changing the image at all.
    """

    keeps_uint8 = pixels_only = True
    listed_before = "NormalizeImage"

    def __init__(
        self,
        *,
        hue: Sequence[float] = (-18, 18, 0.5),
        saturation: Sequence[float] = (0.5, 1.5, 0.5),
        contrast: Sequence[float] = (0.5, 1.5, 0.5),
        brightness: Sequence[float] = (0.5, 1.5, 0.5),
        random_apply: bool = True,
        count: int = 4,
        random_channel: bool = False,
        prob: float = 1.0,
    ) -> None:
        check_probability(prob, "RandomDistort.prob")
        require_number("RandomDistort.count", count, minimum=0)
        self.ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, value in self.ranges.items():
            if len(value) != 3 or not -np.inf < value[0] <= value[1] < np.inf or not 0 <= value[2] <= 1:
                raise ValueError(f"RandomDistort.{name} is {list(value)}, expected [low, high, probability]")
        self.random_apply = random_apply
        self.count = count
        self.random_channel = random_channel
        self.prob = prob

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        if rng.random() >= self.prob:
            return sample
        image = sample["image"]
        mean = np.array(cv2.mean(image)[:3])
        matrix, offset = np.eye(3), np.zeros(3)
        for name in self._order(rng)[: self.count]:
            low, high, prob = self.ranges[name]
            if rng.random() >= prob:
                continue
            step, shift = color_map(name, rng.uniform(low, high), matrix @ mean + offset)
            matrix, offset = step @ matrix, step @ offset + shift
        if self.random_channel and rng.random() < 0.5:
            order = rng.permutation(3)
            matrix, offset = matrix[order], offset[order]
        if not np.array_equal(matrix, np.eye(3)) or offset.any():
            sample["image"] = cv2.transform(image, np.column_stack([matrix, offset]))
        return sample

    def _order(self, rng: np.random.Generator) -> list[str]:
        names = list(self.ranges)
        if self.random_apply:
            return [names[i] for i in rng.permutation(len(names))]
        if rng.random() < 0.5:
            return names
        return ["brightness", "saturation", "hue", "contrast"]


def color_map(name: str, value: float, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix (3, 3) and offset (3,) that change RGB pixels: matrix @ pixel + offset.

    Args:
        name: "brightness", "contrast", "saturation" or "hue".
        value: the factor, or for hue the rotation in degrees.
        mean: (3,) mean RGB of the image; contrast needs it.
    """
    if name == "brightness":
        return value * np.eye(3), np.zeros(3)
    if name == "contrast":
        return value * np.eye(3), np.full(3, (1 - value) * (LUMA @ mean))
    if name == "saturation":
        return value * np.eye(3) + (1 - value) * np.tile(LUMA, (3, 1)), np.zeros(3)
    angle = np.deg2rad(value)
    rotation = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return YIQ_TO_RGB @ rotation @ RGB_TO_YIQ, np.zeros(3)
