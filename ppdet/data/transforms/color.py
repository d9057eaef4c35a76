"""Pixel values and memory layout; boxes are never touched."""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601 luma of RGB
RGB_TO_YIQ = np.array([GREY, [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)


@register
@serializable
class NormalizeImage:
    """(image * scale - mean) / std as float32, scale 1/255 with is_scale.

    Args:
        mean, std: per channel of the result, in units of the scaled image.
        is_scale: bring 0..255 to 0..1 first.
        norm_type: mean_std, or none to scale only.
        channel_order: of the result, for networks that were trained on BGR. Images come as RGB in any case.

    The result is an (H, W, 3) view of an array that holds one channel after the other, so that Permute
    has nothing left to copy.
    """

    pixels_only = True

    def __init__(
        self,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        is_scale: bool = True,
        norm_type: Literal["mean_std", "none"] = "mean_std",
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"NormalizeImage: expected 3 means and 3 positive std, got {list(mean)}, {list(std)}")
        self.mean = list(mean)
        self.std = list(std)
        self.is_scale = is_scale
        self.norm_type = norm_type
        self.channel_order = channel_order
        self._step = -1 if self.is_bgr else 1  # through the channels of an RGB image
        levels = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
        # A uint8 image has 256 values a channel: (3, 256) results, computed once.
        self._table = np.ascontiguousarray(self._normalize(levels).T)

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        image = sample["image"]
        if image.dtype != np.uint8:
            sample["image"] = self._normalize(image[..., :: self._step].astype(np.float32))
            return sample
        planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
        self._look_up(cv2.split(image), planes)
        sample["image"] = planes.transpose(1, 2, 0)
        return sample

    def batch(self, images: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Padded images (N, H, W, 3) uint8 of `sizes` (N, 2) height, width -> (N, 3, H, W) float32, padding 0."""
        n, height, width, _ = images.shape
        result = np.empty((n, 3, height, width), dtype=np.float32)
        for image, planes, (h, w) in zip(images, result, sizes.astype(np.int64).tolist()):
            # Split whole: OpenCV takes several times as long for a part of each row.
            self._look_up([channel[:h, :w] for channel in cv2.split(image)], planes[:, :h, :w])
            planes[:, h:] = 0
            planes[:, :h, w:] = 0
        return result

    def _look_up(self, channels: Sequence[np.ndarray], planes: np.ndarray) -> None:
        """Red, green and blue (H, W) uint8 -> normalised into (3, H, W) float32."""
        for plane, channel, table in zip(planes, channels[:: self._step], self._table):
            cv2.LUT(channel, table, dst=plane)

    @property
    def is_bgr(self) -> bool:
        return self.channel_order == "bgr"

    def pixel_mean_std(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation in units of pixel values: the result is (pixel - mean) / std, in its order."""
        unit = 255.0 if self.is_scale else 1.0
        if self.norm_type == "none":
            return [0.0] * 3, [unit] * 3
        return [m * unit for m in self.mean], [s * unit for s in self.std]

    def equals(self, other: "NormalizeImage") -> bool:
        """Whether both give the same."""
        return (self.pixel_mean_std(), self.is_bgr) == (other.pixel_mean_std(), other.is_bgr)

    def _normalize(self, image: np.ndarray) -> np.ndarray:
        """`image` (..., 3) float32, overwritten."""
        if self.is_scale:
            image *= np.float32(1 / 255)
        if self.norm_type == "mean_std":
            image -= np.array(self.mean)
            image /= np.array(self.std)
        return image


@register
@serializable
class Permute:
    """`image` from (H, W, 3) to (3, H, W)."""

    moves_pixels = True

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        sample["image"] = sample["image"].transpose(2, 0, 1)
        return sample


@register
@serializable
class RandomDistort:
    """Random hue, saturation, contrast and brightness of a uint8 RGB image.

    Each of the four is [low, high, probability to apply it].

    Args:
        hue: degrees of rotation in the plane of colours.
        saturation: factor of the distance to the pixel's grey.
        contrast: factor of the distance to the image's mean grey.
        brightness: factor of the value.
        random_apply: all orders of the four are equally likely; otherwise brightness comes first, and
            contrast before or after saturation and hue.
        count: at most so many of the four, the first of that order.
        random_channel: also shuffle the channels of every other image.
        prob: probability to do anything.

    Each is a linear map of RGB, so the pixels are read once and rounded once.
    """

    keeps_uint8 = pixels_only = True

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
        self.ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        for name, value in self.ranges.items():
            if len(value) != 3 or value[0] > value[1] or not 0 <= value[2] <= 1:
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
        if not (np.array_equal(matrix, np.eye(3)) and not offset.any()):
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
    """(3, 3) matrix and (3,) offset of one distortion; `mean` (3,) RGB of the image it applies to."""
    if name == "brightness":
        return value * np.eye(3), np.zeros(3)
    if name == "contrast":
        return value * np.eye(3), np.full(3, (1 - value) * (GREY @ mean))
    if name == "saturation":
        return value * np.eye(3) + (1 - value) * np.tile(GREY, (3, 1)), np.zeros(3)
    angle = np.deg2rad(value)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    return YIQ_TO_RGB @ turn @ RGB_TO_YIQ, np.zeros(3)
