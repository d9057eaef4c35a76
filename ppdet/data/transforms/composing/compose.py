"""Applying a list of transforms."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from ppdet.data.transforms.base import has_property, refuse_several
from ppdet.data.transforms.decode import Decode, DecodeAndResize
from ppdet.data.transforms.geometry.random_sizes import RandomResize
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.utils.errors import DataError, UserError


class Compose:
    """Applies transforms in turn to a sample, or to a list of samples.

    A transform with `takes_batch` is called with the list, any other one with each sample of it. Decode and a resizing
    right after it become one step, see DecodeAndResize. For example, `Compose(reader.sample_transforms)({"im_file":
    path})` prepares a single image; `rng` may be left out if no transform is random.

    Raises ValueError for a transform of several images, which only readers for training supply.
    """

    def __init__(self, transforms: Sequence[Callable]) -> None:
        refuse_several(transforms, "Compose")
        self.transforms = _join_decode(list(transforms))

    def __call__(self, sample: Any, rng: np.random.Generator | None = None) -> Any:
        for transform in self.transforms:
            sample = apply_transform(transform, sample, rng)
        return sample


def apply_transform(transform: Callable, sample: Any, rng: np.random.Generator | None) -> Any:
    """Apply a transform to a sample, or to a list of samples.

    Raises:
        RuntimeError: the transform failed; the message names it and, for a single sample, the image.
        DataError: it returned no sample, or it needs an image and none was decoded.
    """
    try:
        # Published configurations list Permute and NormalizeImage among the batch transforms too.
        if isinstance(sample, list) and not has_property(transform, "takes_batch"):
            result = [transform(one, rng) for one in sample]
        else:
            result = transform(sample, rng)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, KeyError) and error.args == ("image",):
            raise DataError(f"{type(transform).__name__} got a sample without an image: list Decode first") from error
        where = sample.get("im_file", "an image") if isinstance(sample, dict) else getattr(sample, "name", "a batch")
        raise RuntimeError(f"{type(transform).__name__} failed on {where}: {error!r}") from error
    for one in result if isinstance(result, list) else [result]:
        if not isinstance(one, (dict, list)):
            raise DataError(
                f"{type(transform).__name__} returned {type(one).__name__}; expected the sample that it was called "
                "with, a dict, changed or not (docs/EXTENDING.md)"
            )
    return result


def _join_decode(transforms: list[Callable]) -> list[Callable]:
    for i, (first, second) in enumerate(itertools.pairwise(transforms)):
        # Whoever chooses nearest neighbor wants pixels that are not mixed.
        if type(first) is Decode and (type(second) is Resize or type(second) is RandomResize):
            if second.interp == cv2.INTER_NEAREST:
                continue
            return [*transforms[:i], DecodeAndResize(first, second), *transforms[i + 2 :]]
    return transforms
