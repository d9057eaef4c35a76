"""Transforms of the library Albumentations (Buslaev et al., Information 11(2), 2020) in a list of transforms."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.albu.named_transforms import GROUPS, PIXELS, build, load_albumentations, names_in
from ppdet.data.transforms.base import Transform, check_probability, require_uint8
from ppdet.data.transforms.box_fields import select_boxes
from ppdet.utils.boxes import have_area
from ppdet.utils.errors import DataError


@register
@serializable
class Albu(Transform):
    """Applies transforms of Albumentations in turn to an `image` (H, W, 3) RGB uint8 and its boxes.

    Needs `pip install albumentations`, version 2. Boxes follow the pixels and are clipped to the image; those without
    area are dropped. All random numbers come from the sample's own generator. If all of its transforms change pixel
    values only, so does Albu, and it may make the strong view in semi-supervised training.

    A list can have the transforms that docs/AUGMENTATION.md names: those that neither take functions or files nor make
    the image larger. Their parameters are plain values, with numbers from -1000 to 1000. An image that one of them
    cannot take with its parameters is a DataError.

    Args:
        transforms: the transforms with their parameters, for example `[{RandomGamma: {p: 0.3}}, {OneOf: {p: 0.5,
            transforms: [{Blur: {}}, {CLAHE: {}}]}}]`. MMDetection's spelling `{type: RandomGamma, p: 0.3}` is the same.
        min_visibility: drop a box if less than this share of its area is left inside the image, from 0 to 1. Crowd
            boxes stay while they have area.
    """

    keeps_uint8 = True
    listed_before = "NormalizeImage"

    def __init__(self, *, transforms: Sequence[Mapping[str, Any]], min_visibility: float = 0.0) -> None:
        check_probability(min_visibility, "Albu.min_visibility")
        self.transforms = list(transforms)
        self.min_visibility = min_visibility
        self.pixels_only = (PIXELS | GROUPS).issuperset(names_in(self.transforms, "Albu.transforms"))
        self.moves_objects = not self.pixels_only
        self._compositions = {share: self._compose(share) for share in {0.0, float(min_visibility)}}

    def __reduce__(self) -> tuple:
        # Workers build the transforms anew, so that Albumentations is imported there as it is here.
        return _rebuild, (self.transforms, self.min_visibility)

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        require_uint8(sample, "Albu")
        seed = int(rng.integers(2**63))
        boxes = sample.get("gt_bbox", np.zeros((0, 4), dtype=np.float32))
        if self.pixels_only:
            sample["image"] = self._run(seed, 0.0, image=sample["image"])["image"]
            return sample
        image, moved, rows = self._move(sample["image"], boxes, seed, self.min_visibility)
        crowd = sample["is_crowd"].reshape(-1) > 0 if "is_crowd" in sample else np.zeros(len(boxes), dtype=bool)
        if self.min_visibility and not np.isin(np.flatnonzero(crowd), rows).all():
            # A crowd was dropped: the same once more, with all boxes that have area.
            visible = rows
            image, moved, rows = self._move(sample["image"], boxes, seed, 0.0)
            stays = crowd[rows] | np.isin(rows, visible)
            moved, rows = moved[stays], rows[stays]
        sample["image"] = image
        sample["im_shape"] = np.array(image.shape[:2], dtype=np.float32)
        if "gt_bbox" in sample:
            select_boxes(sample, rows)
            sample["gt_bbox"] = moved
            select_boxes(sample, have_area(moved))
        return sample

    def _compose(self, min_visibility: float) -> Any:
        albumentations = load_albumentations()
        transforms = build(self.transforms, "Albu.transforms")
        if self.pixels_only:
            return albumentations.Compose(transforms)
        boxes = albumentations.BboxParams("pascal_voc", label_fields=["row"], clip=True, min_visibility=min_visibility)
        return albumentations.Compose(transforms, bbox_params=boxes)

    def _move(
        self, image: np.ndarray, boxes: np.ndarray, seed: int, min_visibility: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the transformed image, the boxes (K, 4) that stay of (M, 4), and their rows (K,) before."""
        result = self._run(seed, min_visibility, image=image, bboxes=boxes, row=np.arange(len(boxes)))
        moved = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 4)
        return result["image"], moved, np.asarray(result["row"], dtype=np.int64).reshape(-1)

    def _run(self, seed: int, min_visibility: float, **data: np.ndarray) -> dict:
        compose = self._compositions[float(min_visibility)]
        # One generator for all transforms: with `set_random_seed`, each would draw the same numbers.
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))  # nosec B311: no secrets
        try:
            return compose(**data)
        except Exception as error:  # of Albumentations, OpenCV or NumPy: some parameters are only checked with an image
            size = " x ".join(str(side) for side in data["image"].shape[:2])
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"Albu.transforms cannot change an image of {size} pixels: {reason:.200}") from error


def _rebuild(transforms: Sequence[Mapping[str, Any]], min_visibility: float) -> Albu:
    return Albu(transforms=transforms, min_visibility=min_visibility)
