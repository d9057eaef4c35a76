"""Images of a batch that padding makes unequal: each is detected on at the size that it has alone."""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from ppdet.data.transforms.batch import PadBatch


def padded_size(size: tuple[int, int], transforms: Sequence[Callable]) -> tuple[int, int]:
    """Height and width to which these transforms pad an image of this height and width when it is alone in a batch."""
    for transform in transforms:
        if isinstance(transform, PadBatch):
            size = transform.padded_size(*size)
    return size


def split_by_size(
    arrays: dict[str, np.ndarray], transforms: Sequence[Callable], *, in_order: bool
) -> list[dict[str, np.ndarray]]:
    """A batch that was padded to its largest image, as batches of images of one padded size, with no further padding.

    A network sees an image's padding: near its edges, and in the mean and variance that group norm takes over the
    whole input. Apart, what is detected in an image depends on no other one.

    Args:
        arrays: `im_shape` (N, 2), heights and widths without padding; `image` (N, 3, H, W), or (N, H, W, 3) where it
            is uint8; others with N rows. transforms: the PadBatch among them padded it.
        in_order: keep the images in their order, so that those of one size may come in several batches.
    """
    sizes = [padded_size(tuple(size), transforms) for size in arrays["im_shape"].astype(int).tolist()]
    if len(set(sizes)) == 1:
        return [arrays]
    places = range(len(sizes)) if in_order else sorted(range(len(sizes)), key=sizes.__getitem__)
    parts = []
    for (height, width), group in groupby(places, key=sizes.__getitem__):
        rows = list(group)
        part = {key: array[rows] for key, array in arrays.items()}
        image = part["image"]
        part["image"] = image[:, :height, :width] if image.dtype == np.uint8 else image[:, :, :height, :width]
        parts.append(part)
    return parts
