"""Transforms one after the other."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from ppdet.data.transforms.decode import Decode, DecodeAndResize
from ppdet.data.transforms.geometry import RandomResize, Resize
from ppdet.utils.errors import UserError


class Compose:
    """Calls `transforms` in turn on a sample, or on a list of samples. A batch transform (`takes_batch`)
    gets the list, any other one each sample of it.

    `Compose(reader.sample_transforms)({"im_file": path})` prepares a single image. `rng` may be left out
    when no transform is random. Decode and a resizing right after it become one step, see DecodeAndResize.
    """

    def __init__(self, transforms: Sequence[Callable]) -> None:
        self.transforms = _join_decode(list(transforms))

    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        for transform in self.transforms:
            try:
                # Published files list Permute and NormalizeImage among the batch transforms too.
                if isinstance(sample, list) and not getattr(transform, "takes_batch", False):
                    sample = [transform(one, rng) for one in sample]
                else:
                    sample = transform(sample, rng)
            except UserError:
                raise
            except Exception as error:
                where = sample.get("im_file", "an image") if isinstance(sample, dict) else "a batch"
                raise RuntimeError(f"{type(transform).__name__} failed on {where}: {error!r}") from error
        return sample


def _join_decode(transforms: list[Callable]) -> list[Callable]:
    for i, (first, second) in enumerate(itertools.pairwise(transforms)):
        # Nearest neighbour is for those who want unmixed pixels.
        if type(first) is Decode and type(second) in (Resize, RandomResize) and second.interp != cv2.INTER_NEAREST:
            return [*transforms[:i], DecodeAndResize(first, second), *transforms[i + 2 :]]
    return transforms
