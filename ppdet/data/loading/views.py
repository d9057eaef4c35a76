"""Reading several views of each image, flipped and resized, for test-time augmentation."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.geometry.resize import Resize, as_pair
from ppdet.utils.errors import DataError


class View(NamedTuple):
    """One view of an image.

    Attributes:
        scale: factor of the size to which the image is resized, above 0.
        mirrored: left and right are exchanged.
        upside_down: top and bottom are exchanged.
    """

    scale: float = 1.0
    mirrored: bool = False
    upside_down: bool = False


class Flip(Transform):
    """Flips the pixels of every image: left and right, top and bottom, or both."""

    keeps_uint8 = moves_pixels = True

    def __init__(self, view: View) -> None:
        self.view = view

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        code = {(True, False): 1, (False, True): 0, (True, True): -1}[self.view.mirrored, self.view.upside_down]
        sample["image"] = cv2.flip(sample["image"], code)
        return sample


class Zoom(Transform):
    """Resizes every image by a factor, where the reader's transforms have no Resize."""

    keeps_uint8 = True

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        if self.scale == 1:
            return sample
        height, width = sample["image"].shape[:2]
        name = f"{sample['im_file']}: " if "im_file" in sample else ""
        return resized(Resize(target_size=(height, width), keep_ratio=False), self.scale, name)(sample)


def transforms_of_view(transforms: Sequence[Callable], view: View) -> list[Callable]:
    """Sample transforms that make a view.

    Args:
        transforms: those that make the image as it is, from Decode on. The target_size of each Resize among them is
            multiplied by the view's scale. Without a Resize, the image itself is resized by it. Pixels are flipped
            after the last of these.

    Raises:
        DataError: a size becomes larger than that of any image that the network reads.
    """
    changed: list[Callable]
    if not any(isinstance(transform, Resize) for transform in transforms):
        place = 1 + max(i for i, transform in enumerate(transforms) if isinstance(transform, Decode))
        changed = [*transforms[:place], Zoom(view.scale), *transforms[place:]]
    else:
        changed = [resized(t, view.scale) if isinstance(t, Resize) else t for t in transforms]
    if view.mirrored or view.upside_down:
        place = 1 + max(i for i, transform in enumerate(changed) if isinstance(transform, (Resize, Zoom)))
        changed.insert(place, Flip(view))
    return changed


def resized(resize: Resize, scale: float, name: str = "") -> Resize:
    """A copy of a Resize, also of a class derived from it, with target_size times a factor, rounded, and at least 1.

    Args:
        name: what an error begins with, such as the file of the image that becomes too large.
    """
    changed = copy.copy(resize)
    size = [max(1, int(side * scale + 0.5)) for side in resize.target_size]
    try:
        changed.target_size = as_pair(size, "Resize.target_size")
    except ValueError as error:
        raise DataError(f"{name}test-time augmentation, scale {scale:g}: {error}") from None
    return changed
