"""Making the images of a batch one size."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.geometry import as_pair
from ppdet.utils.errors import DataError


@register
@serializable
class PadBatch:
    """Pads every (3, H, W) image with zeros, below and on the right, to the largest height and width.

    Args:
        pad_to_stride: round the padded size up to a multiple of it; 0 does not.
        pad_to_size: least height and width, before that rounding: one number for both, or two. null: none.

    Recipes whose images are padded to a square view of 8n + 1 pixels, such as 1025, have it as pad_to_size 1025 and
    pad_to_stride 32: the network takes multiples of its stride, 1056. The locations in the view are the same ones (with
    num_shift 0: multiples of the stride, from 0 to 1024). What differs: there are some more in the padding, which are
    background in training and no candidates in detection; and features near the view's right and lower edge see what
    the network makes of padding, where every convolution of the smaller input would see zeros.

    `im_shape` stays the size of the image itself. The images become views of one array, which `stack_images` finds
    again: (N, 3, H, W), or (N, H, W, 3) where Permute only turned the axes of a view.
    """

    takes_batch = moves_pixels = True
    empty = staticmethod(np.empty)  # makes the array; a worker sets one that takes shared memory

    def __init__(self, *, pad_to_stride: int = 0, pad_to_size: int | Sequence[int] | None = None) -> None:
        if pad_to_stride < 0:
            raise ValueError(f"PadBatch.pad_to_stride is {pad_to_stride}, expected 0 or a positive stride")
        self.pad_to_stride = pad_to_stride
        self.pad_to_size = None if pad_to_size is None else as_pair(pad_to_size, "PadBatch.pad_to_size")

    def __call__(self, samples: list[dict], rng: np.random.Generator | None = None) -> list[dict]:
        images = [sample["image"] for sample in samples]
        if any(image.ndim != 3 or image.shape[0] > 4 for image in images):
            raise DataError(f"PadBatch: an image of shape {images[0].shape}, expected (3, H, W): Permute comes before")
        height, width = self.padded_size(*(max(image.shape[axis] for image in images) for axis in (1, 2)))
        batch = _like((len(images), images[0].shape[0], height, width), images[0], self.empty)
        for sample, image, padded in zip(samples, images, batch):
            h, w = image.shape[1:]
            padded[:, :h, :w] = image
            padded[:, h:] = 0
            padded[:, :h, w:] = 0
            sample["image"] = padded
        return samples

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """What becomes of the largest height and width of a batch."""
        stride = max(self.pad_to_stride, 1)
        sides = zip((height, width), self.pad_to_size or (1, 1))
        return tuple(-(-max(side, least) // stride) * stride for side, least in sides)


def stack_images(images: list[np.ndarray]) -> np.ndarray:
    """(N, 3, H, W) of images (3, H, W) of one size, without a copy when they are the rows of one array already.

    In memory the channels come last where they do in the images, as in turned views of (H, W, 3) arrays.
    """
    owner = images[0].base
    if isinstance(owner, np.ndarray) and owner.ndim == 4:
        whole = owner.transpose(0, 3, 1, 2) if _channels_last(images[0]) else owner
        if whole.shape == (len(images), *images[0].shape):
            rows = (row.__array_interface__["data"] for row in whole)
            if all(
                image.base is owner and image.__array_interface__["data"] == row for image, row in zip(images, rows)
            ):
                return whole
    return np.stack(images, out=_like((len(images), *images[0].shape), images[0], np.empty))


def _like(shape: tuple[int, int, int, int], image: np.ndarray, empty: Callable) -> np.ndarray:
    """An array (N, C, H, W) of the type of `image` (C, H, W), with its channels where that one has them."""
    n, channels, height, width = shape
    if _channels_last(image):
        return empty((n, height, width, channels), image.dtype).transpose(0, 3, 1, 2)
    return empty(shape, image.dtype)


def _channels_last(image: np.ndarray) -> bool:
    return image.strides[0] < image.strides[2]
