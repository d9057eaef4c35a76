"""Resizing all images of a batch to one random size."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.geometry.random_sizes import scaled_sizes
from ppdet.data.transforms.geometry.resize import (
    Resize,
    as_pair,
    check_interpolation,
    check_sizes,
    draw_interpolation,
)
from ppdet.utils.errors import DataError


@register
@serializable
class BatchRandomResize(Transform):
    """Resizes all images of a batch to one random size, as in YOLO9000 (arXiv:1612.08242, section 2).

    It is listed among the batch transforms, best before NormalizeImage and Permute, which can stand there too: images
    are then resized as bytes, and the device normalizes them. On several devices each draws its own size. With
    keep_ratio, the images of a batch still differ in size, and PadBatch after it pads them.

    Args:
        target_size: with random_size, a list of sizes, each like Resize's target_size; one of them is drawn. Without
            it, one size.
        keep_ratio: as in Resize.
        interp: OpenCV's number of the interpolation, as in Resize.
        random_size: see target_size.
        random_interp: draw the interpolation too, from the five of `interp`, one for the batch.
        input_size: the global setting, which replaces a target_size that is not set.
        scales: factors of input_size, one for each size: input_size [240, 320] and scales [0.8, 1] are the sizes
            [[192, 256], [240, 320]].
    """

    __shared__ = ["input_size"]
    takes_batch = keeps_uint8 = True
    listed_before = "PadBatch"

    def __init__(
        self,
        *,
        target_size: int | Sequence[int | Sequence[int]] | None = None,
        keep_ratio: bool = True,
        interp: int = cv2.INTER_LINEAR,
        random_size: bool = True,
        random_interp: bool = False,
        input_size: int | Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
    ) -> None:
        name = "BatchRandomResize.target_size"
        if target_size is None:
            scaled = scaled_sizes(input_size, scales, "BatchRandomResize")
            target_size = scaled if random_size else scaled[0]
        elif scales is not None:
            raise ValueError(
                "BatchRandomResize: scales are factors of the global setting input_size: unset target_size"
            )
        sizes = check_sizes(target_size, name) if random_size else [target_size]
        self.sizes = [as_pair(size, name) for size in sizes]
        self.keep_ratio = keep_ratio
        self.interp = check_interpolation(interp, "BatchRandomResize.interp")
        self.random_interp = random_interp

    def __call__(self, samples: list[dict], rng: np.random.Generator) -> list[dict]:
        target_size = self.sizes[int(rng.integers(len(self.sizes)))]
        interp = draw_interpolation(rng) if self.random_interp else self.interp
        resize = Resize(target_size=target_size, keep_ratio=self.keep_ratio, interp=interp)
        return [_resize_any_layout(sample, resize) for sample in samples]

    def keep_largest(self) -> bool:
        had = len(self.sizes) > 1
        self.sizes = [max(self.sizes, key=math.prod)]
        return had


def _resize_any_layout(sample: dict, resize: Resize) -> dict:
    """Resize a sample whose image is (H, W, 3), or (3, H, W) after Permute."""
    if sample["image"].shape[2] == 3:
        return resize(sample)
    if sample["image"].shape[0] != 3:
        raise DataError(f"BatchRandomResize: an image has the shape {sample['image'].shape}, expected (H, W, 3)")
    sample["image"] = np.ascontiguousarray(sample["image"].transpose(1, 2, 0))
    sample = resize(sample)
    sample["image"] = sample["image"].transpose(2, 0, 1)
    return sample
