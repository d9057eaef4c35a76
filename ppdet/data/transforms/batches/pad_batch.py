"""Padding the images of a batch to one size, and stacking them to one array."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.geometry.resize import as_pair
from ppdet.utils.errors import DataError

MAX_STRIDE = 1024  # pixels; an image of one pixel is padded to a square of this size
Empty = Callable[..., np.ndarray]  # called like numpy.empty: (shape, dtype)


@register
@serializable
class PadBatch(Transform):
    """Pads every image (3, H, W) of a batch with zeros, at the bottom and on the right, to one height and width.

    The size is the largest height and width in the batch, enlarged as the parameters say. `im_shape` stays the size of
    the image without padding.

    Recipes that pad images to a square of 8n + 1 pixels, such as 1025, are written as pad_to_size 1025 and
    pad_to_stride 32: the network takes multiples of its stride, here 1056. The locations inside the square are the
    same ones. Two things differ: there are further locations in the padding, which are background in training and
    masked in detection; and near the right and bottom edge of the square, features see what the network computes from
    padding, where a convolution of the smaller input would see zeros.

    Args:
        pad_to_stride: round the height and width up to a multiple of this; 0 does not round.
        pad_to_size: minimal height and width before rounding, one number for both or two; null: no minimum.
    """

    takes_batch = moves_pixels = True
    # Makes the array of a batch. A data worker replaces it by one that allocates shared memory.
    empty: Empty = staticmethod(np.empty)

    def __init__(self, *, pad_to_stride: int = 0, pad_to_size: int | Sequence[int] | None = None) -> None:
        if not (isinstance(pad_to_stride, int) and 0 <= pad_to_stride <= MAX_STRIDE):
            found = f"PadBatch.pad_to_stride is {pad_to_stride!r:.60}"
            raise ValueError(f"{found}, expected 0 or a positive stride of at most {MAX_STRIDE}")
        self.pad_to_stride = pad_to_stride
        self.pad_to_size = None if pad_to_size is None else as_pair(pad_to_size, "PadBatch.pad_to_size")

    def __call__(self, samples: list[dict], rng: np.random.Generator | None = None) -> list[dict]:
        """Pad the images. They become views of one array, which `stack_images` returns without a copy."""
        images = [sample["image"] for sample in samples]
        if any(image.ndim != 3 or image.shape[0] > 4 for image in images):
            raise DataError(
                f"PadBatch: an image has the shape {images[0].shape}, expected (3, H, W): list Permute before it"
            )
        height, width = self.padded_size(
            max(image.shape[1] for image in images), max(image.shape[2] for image in images)
        )
        batch = _empty_like(images[0], (len(images), images[0].shape[0], height, width), self.empty)
        for sample, image, padded in zip(samples, images, batch):
            h, w = image.shape[1:]
            padded[:, :h, :w] = image
            padded[:, h:] = 0
            padded[:, :h, w:] = 0
            sample["image"] = padded
        return samples

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The size to which a batch is padded whose largest height and width are these."""
        stride = max(self.pad_to_stride, 1)
        least_height, least_width = self.pad_to_size or (1, 1)
        return -(-max(height, least_height) // stride) * stride, -(-max(width, least_width) // stride) * stride


def stack_images(images: list[np.ndarray]) -> np.ndarray:
    """Stack images (3, H, W) of one size to (N, 3, H, W), without a copy if PadBatch made them rows of one array.

    The memory layout, channels first or last, follows the images: Permute only transposes a view.
    """
    owner = images[0].base
    if isinstance(owner, np.ndarray) and owner.ndim == 4:
        whole = owner.transpose(0, 3, 1, 2) if _has_channels_last(images[0]) else owner
        if whole.shape == (len(images), *images[0].shape):
            addresses = [row.__array_interface__["data"] for row in whole]
            if all(
                image.base is owner and image.__array_interface__["data"] == address
                for image, address in zip(images, addresses)
            ):
                return whole
    return np.stack(images, out=_empty_like(images[0], (len(images), *images[0].shape), np.empty))


def _empty_like(image: np.ndarray, shape: tuple[int, ...], empty: Empty) -> np.ndarray:
    """An array of `shape` (N, C, H, W) with the type and the memory layout of `image` (C, H, W)."""
    n, channels, height, width = shape
    if _has_channels_last(image):
        return empty((n, height, width, channels), image.dtype).transpose(0, 3, 1, 2)
    return empty(shape, image.dtype)


def _has_channels_last(image: np.ndarray) -> bool:
    return image.strides[0] < image.strides[2]
