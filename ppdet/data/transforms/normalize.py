"""The last steps from pixels to the network's input: normalization, and channels first."""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.normalization import Normalization
from ppdet.data.transforms.base import Transform
from ppdet.utils.ranges import require_number

LARGEST = 1e6  # of a mean, a standard deviation or a color; images are computed in float32


@register
@serializable
class NormalizeImage(Transform):
    """Normalizes pixels: (image * scale - mean) / std as float32, where scale is 1/255 if `is_scale` is set, else 1.

    The result is an (H, W, 3) view of an array that stores one channel after the other, so that Permute need not copy.

    Args:
        mean: three numbers, one for each channel of the result, in units of the scaled image.
        std: three positive numbers, likewise.
        is_scale: scale pixels from 0..255 to 0..1 first.
        norm_type: "mean_std"; or "none" to scale only.
        channel_order: order of the result's channels, "bgr" for networks that were trained on BGR images. The images
            that come in are RGB in either case.
    """

    pixels_only = True
    listed_before = "Permute"

    def __init__(
        self,
        *,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        is_scale: bool = True,
        norm_type: Literal["mean_std", "none"] = "mean_std",
        channel_order: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        for name, values, least in (("mean", mean, -LARGEST), ("std", std, 1 / LARGEST)):
            if len(values) != 3:
                raise ValueError(f"NormalizeImage.{name} is {list(values)!r:.100}, expected three numbers")
            for value in values:
                require_number(f"NormalizeImage.{name}", value, minimum=least, maximum=LARGEST)
        self.mean = list(mean)
        self.std = list(std)
        self.is_scale = is_scale
        self.norm_type = norm_type
        self.channel_order = channel_order
        self._step = -1 if channel_order == "bgr" else 1  # through the channels of an RGB image
        levels = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
        # A channel of a uint8 image has only 256 values: their results are computed once, (3, 256).
        self._table = np.ascontiguousarray(self._normalize_floats(levels).T)

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        image = sample["image"]
        if image.dtype != np.uint8:
            sample["image"] = self._normalize_floats(image[..., :: self._step].astype(np.float32))
            return sample
        planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
        self._look_up(cv2.split(image), planes)
        sample["image"] = planes.transpose(1, 2, 0)
        return sample

    @property
    def normalization(self) -> Normalization:
        """The same computation, in units of pixel values from 0 to 255."""
        unit = 255.0 if self.is_scale else 1.0
        is_bgr = self.channel_order == "bgr"
        if self.norm_type == "none":
            return Normalization((0.0,) * 3, (unit,) * 3, is_bgr)
        return Normalization(tuple(m * unit for m in self.mean), tuple(s * unit for s in self.std), is_bgr)

    def normalize_batch(self, images: np.ndarray, im_shape: np.ndarray) -> np.ndarray:
        """Normalize a padded batch and set its padding to 0.

        Args:
            images: (N, H, W, 3) uint8.
            im_shape: (N, 2) heights and widths of the images without padding.

        Returns:
            (N, 3, H, W) float32.
        """
        n, height, width, _ = images.shape
        result = np.empty((n, 3, height, width), dtype=np.float32)
        for image, planes, (h, w) in zip(images, result, im_shape.astype(np.int64).tolist()):
            # The whole image is split: OpenCV takes several times as long for a part of each row.
            self._look_up([channel[:h, :w] for channel in cv2.split(image)], planes[:, :h, :w])
            planes[:, h:] = 0
            planes[:, :h, w:] = 0
        return result

    def _look_up(self, channels: Sequence[np.ndarray], planes: np.ndarray) -> None:
        """Write the normalized red, green and blue channels (H, W) uint8 into planes (3, H, W) float32."""
        for plane, channel, table in zip(planes, channels[:: self._step], self._table):
            cv2.LUT(channel, table, dst=plane)

    def _normalize_floats(self, image: np.ndarray) -> np.ndarray:
        """Normalize `image` (..., 3) float32 in place."""
        if self.is_scale:
            image *= np.float32(1 / 255)
        if self.norm_type == "mean_std":
            image -= np.array(self.mean)
            image /= np.array(self.std)
        return image


@register
@serializable
class Permute(Transform):
    """Moves the channels of `image` to the front: (H, W, 3) becomes (3, H, W)."""

    moves_pixels = True
    listed_before = "Permute"

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        sample["image"] = sample["image"].transpose(2, 0, 1)
        return sample
