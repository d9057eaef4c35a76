"""Splitting a batch by padded size, so that each image has the padding that it would have alone.

A network sees an image's padding: near the image's edges, and in the mean and variance that group norm computes over
the whole input. Without other images' padding, detections in an image do not depend on the other images of its batch.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from ppdet.data.transforms.batches.pad_batch import PadBatch


def padded_size(size: tuple[int, int], transforms: Sequence[Callable]) -> tuple[int, int]:
    """The height and width to which `transforms` pad an image of this height and width if it is alone in a batch."""
    for transform in transforms:
        if isinstance(transform, PadBatch):
            size = transform.padded_size(*size)
    return size


def split_by_size(
    arrays: dict[str, np.ndarray], transforms: Sequence[Callable], *, in_order: bool
) -> list[dict[str, np.ndarray]]:
    """Split a batch that was padded to its largest image into batches of equally large images, and cut their padding.

    Args:
        arrays: `im_shape` (N, 2) heights and widths without padding; `image` (N, 3, H, W), or (N, H, W, 3) if it is
            uint8; other arrays with N rows.
        transforms: the batch transforms, among them the PadBatch that padded the batch.
        in_order: keep the images in order, so that images of one size may come in several batches.
    """
    sizes = [padded_size((h, w), transforms) for h, w in arrays["im_shape"].astype(int).tolist()]
    if len(set(sizes)) == 1:
        return [arrays]
    order = range(len(sizes)) if in_order else sorted(range(len(sizes)), key=sizes.__getitem__)
    parts = []
    for (height, width), group in groupby(order, key=sizes.__getitem__):
        rows = list(group)
        part = {key: array[rows] for key, array in arrays.items()}
        image = part["image"]
        part["image"] = image[:, :height, :width] if image.dtype == np.uint8 else image[:, :, :height, :width]
        parts.append(part)
    return parts
