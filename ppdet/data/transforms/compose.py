"""Applying a list of transforms."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from ppdet.data.transforms.base import has_property
from ppdet.data.transforms.decode import Decode, DecodeAndResize
from ppdet.data.transforms.geometry import RandomResize, Resize
from ppdet.utils.errors import DataError, UserError


class Compose:
    """Applies transforms in turn to a sample, or to a list of samples.

    A transform with `takes_batch` is called with the list, any other one with each sample of it. Decode and a resizing
    right after it become one step, see DecodeAndResize. For example, `Compose(reader.sample_transforms)({"im_file":
    path})` prepares a single image; `rng` may be left out if no transform is random.
    """

    def __init__(self, transforms: Sequence[Callable]) -> None:
        self.transforms = _join_decode(list(transforms))

    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        for transform in self.transforms:
            try:
                # Published configurations list Permute and NormalizeImage among the batch transforms too.
                if isinstance(sample, list) and not has_property(transform, "takes_batch"):
                    sample = [transform(one, rng) for one in sample]
                else:
                    sample = transform(sample, rng)
            except UserError:
                raise
            except Exception as error:
                where = sample.get("im_file", "an image") if isinstance(sample, dict) else "a batch"
                raise RuntimeError(f"{type(transform).__name__} failed on {where}: {error!r}") from error
            results = sample if isinstance(sample, list) else [sample]
            if not all(isinstance(result, (dict, list)) for result in results):
                kind = next(type(result).__name__ for result in results if not isinstance(result, (dict, list)))
                raise DataError(
                    f"{type(transform).__name__} returned {kind}; expected the sample that it was called with, a dict, "
                    "changed or not (docs/EXTENDING.md)"
                )
        return sample


def _join_decode(transforms: list[Callable]) -> list[Callable]:
    for i, (first, second) in enumerate(itertools.pairwise(transforms)):
        # Whoever chooses nearest neighbor wants pixels that are not mixed.
        if type(first) is Decode and (type(second) is Resize or type(second) is RandomResize):
            if second.interp == cv2.INTER_NEAREST:
                continue
            return [*transforms[:i], DecodeAndResize(first, second), *transforms[i + 2 :]]
    return transforms
