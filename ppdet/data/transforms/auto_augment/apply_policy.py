"""AutoAugment: one randomly chosen sub-policy of a learned policy changes the image and its boxes."""

from typing import Literal

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.auto_augment import box_operations as ops
from ppdet.data.transforms.auto_augment.pixel_operations import MAX_MAGNITUDE, PIXEL_OPERATIONS
from ppdet.data.transforms.auto_augment.policies import POLICIES
from ppdet.data.transforms.base import Transform, require_uint8
from ppdet.data.transforms.box_fields import Area, clip_to_area, drop_lost_boxes, remaining_share, select_boxes
from ppdet.data.transforms.geometry.affine import warp_sample
from ppdet.utils.ranges import require_choice

IN_BOXES = "_Only_BBoxes"
WITH_BOXES = "_BBox"
# The probability of an operation for each box is the table's divided by this, so that not too many boxes that are close
# to each other are changed at once (the published code).
BOX_PROBABILITY_DIVISOR = 3.0


@register
@serializable
class AutoAugment(Transform):
    """Applies a random sub-policy of a policy that was learned on COCO to an `image` (H, W, 3) RGB uint8 and its boxes.

    The policies and the operations' ranges, but for that of Posterize, are those published with Zoph et al.,
    arXiv:1906.11172. An operation is applied with its own probability. Boxes follow rotations, shears and translations,
    and are clipped to the image; those with a side below one pixel are dropped, and those of which a cutout covers half
    or more, as in PaddleDetection. A crowd box stays where a cutout covers it, and operations on the inside of boxes
    leave it alone.

    Translations (up to 250 pixels) and cutouts (up to 200 x 200) are in pixels of the image that the transform gets, as
    published for images of about 640 pixels. Where images are much smaller or larger, list it after a resizing to about
    that size. Operations on the inside of boxes may move a small object out of its own box.

    Args:
        autoaug_type: the policy. v0 gave the results of the paper; v1 has it and 15 more sub-policies; v2 and v3 are
            other policies found by the same search; test always shifts and equalizes, for looking at boxes.
    """

    keeps_uint8 = moves_objects = True
    listed_before = "NormalizeImage"

    def __init__(self, *, autoaug_type: Literal["v0", "v1", "v2", "v3", "test"] = "v1") -> None:
        require_choice("AutoAugment.autoaug_type", autoaug_type, list(POLICIES))
        self.autoaug_type = autoaug_type

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        require_uint8(sample, "AutoAugment")
        policy = POLICIES[self.autoaug_type]
        for name, prob, magnitude in policy[int(rng.integers(len(policy)))]:
            if name.endswith(IN_BOXES):
                _change_boxes(sample, name.removesuffix(IN_BOXES), prob / BOX_PROBABILITY_DIVISOR, magnitude, rng)
            elif rng.random() < prob:
                apply_operation(sample, name, magnitude, rng)
        return sample


def apply_operation(sample: dict, name: str, magnitude: float, rng: np.random.Generator) -> None:
    """Apply an operation to the whole image of a sample, whose arrays are replaced.

    Args:
        name: a key of PIXEL_OPERATIONS, Cutout, BBox_Cutout, Rotate_BBox, ShearX_BBox, ShearY_BBox, TranslateX_BBox or
            TranslateY_BBox.
        magnitude: 0 to 10.
    """
    image = sample["image"]
    h, w = image.shape[:2]
    if name in PIXEL_OPERATIONS:
        sample["image"] = PIXEL_OPERATIONS[name](image, magnitude)
    elif name == "Cutout":
        half = int(magnitude / MAX_MAGNITUDE * ops.MAX_CUTOUT)
        _cut(sample, ops.square_around(int(rng.integers(h)), int(rng.integers(w)), half, h, w))
    elif name == "BBox_Cutout":
        if len(sample.get("gt_bbox", ())):
            _cut(sample, _rectangle_in_a_box(sample["gt_bbox"], magnitude, h, w, rng))
    else:
        warp = ops.draw_warp(name.removesuffix(WITH_BOXES), magnitude, (h, w), ops.MAX_SHIFT, rng)
        _, share = warp_sample(sample, warp, (h, w), fill=ops.GRAY)
        if "gt_bbox" in sample:
            drop_lost_boxes(sample, share, min_share=0.0, min_side=ops.SMALLEST)


def _change_boxes(sample: dict, name: str, prob: float, magnitude: float, rng: np.random.Generator) -> None:
    """Apply an operation to the pixels inside of each box with a probability; boxes stay."""
    boxes = sample.get("gt_bbox", np.zeros((0, 4)))
    chosen = rng.random(len(boxes)) < prob
    if "is_crowd" in sample:
        chosen &= sample["is_crowd"].reshape(-1) == 0
    if not chosen.any():
        return
    image = sample["image"].copy()
    for box in boxes[chosen]:
        x1, y1, x2, y2 = _pixels_of(box, *image.shape[:2])
        image[y1:y2, x1:x2] = ops.in_box(image[y1:y2, x1:x2].copy(), name, magnitude, rng)
    sample["image"] = image


def _pixels_of(box: np.ndarray, h: int, w: int) -> Area:
    """The pixels that a box touches, at least one, in an image of h x w pixels."""
    x1, y1 = np.clip(np.floor(box[:2]), 0, [w - 1, h - 1]).astype(int)
    x2, y2 = np.clip(np.ceil(box[2:]), [x1 + 1, y1 + 1], [w, h]).astype(int)
    return x1, y1, x2, y2


def _rectangle_in_a_box(boxes: np.ndarray, magnitude: float, h: int, w: int, rng: np.random.Generator) -> Area:
    """A rectangle with up to 0.75 times the sides of a random box, around a random pixel of the box."""
    x1, y1, x2, y2 = _pixels_of(boxes[int(rng.integers(len(boxes)))], h, w)
    share = magnitude / MAX_MAGNITUDE * ops.MAX_CUTOUT_OF_BOX
    half_h, half_w = int(share * (y2 - y1) / 2), int(share * (x2 - x1) / 2)
    y, x = int(rng.integers(y1, y2)), int(rng.integers(x1, x2))
    return max(x - half_w, 0), max(y - half_h, 0), min(x + half_w, w), min(y + half_h, h)


def _cut(sample: dict, rectangle: Area) -> None:
    sample["image"] = ops.cut_out(sample["image"], rectangle)
    if "gt_bbox" in sample:
        boxes = sample["gt_bbox"]
        keep = remaining_share(boxes, clip_to_area(boxes, rectangle)) < ops.COVERED
        if "is_crowd" in sample:
            keep |= sample["is_crowd"].reshape(-1) == 1
        select_boxes(sample, keep)
