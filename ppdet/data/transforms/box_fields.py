"""The boxes of a sample, and the fields that have a row for each of them."""

from collections.abc import Sequence

import numpy as np

from ppdet.utils.boxes import SMALLEST_SIDE, have_area

BOX_FIELDS = ("gt_bbox", "gt_class", "is_crowd")  # fields of a sample with one row for each box
Area = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels
# A box of which less is left after mixing or warping is dropped, unless it is a crowd.
MIN_SHARE = 0.1  # of its area
MIN_SIDE = 2.0  # pixels


def box_fields(sample: dict) -> dict:
    """Return the fields of a sample that have a row for each box."""
    return {field: sample[field] for field in BOX_FIELDS if field in sample}


def select_boxes(sample: dict, stays: np.ndarray) -> dict:
    """Keep the boxes of a sample for which `stays` (M,) is true, with all their fields."""
    for field in BOX_FIELDS:
        if field in sample:
            sample[field] = sample[field][stays]
    return sample


def clip_to_area(boxes: np.ndarray, area: Sequence[float]) -> np.ndarray:
    """Clip boxes (M, 4) to an area x1, y1, x2, y2."""
    low, high = np.array([*area[:2]] * 2, dtype=boxes.dtype), np.array([*area[2:]] * 2, dtype=boxes.dtype)
    return np.clip(boxes, low, high)


def remaining_share(whole: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """Return (M,) the areas of clipped boxes (M, 4) as shares of those of the whole boxes (M, 4)."""
    before, after = ((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1, dtype=np.float64) for boxes in (whole, clipped))
    return np.divide(after, before, out=np.zeros_like(after), where=before > 0)


def drop_lost_boxes(
    sample: dict, share: np.ndarray, *, min_share: float, min_side: float = 0.0, max_aspect: float = np.inf
) -> dict:
    """Drop the boxes of a sample of which too little is left. Crowds only have to have area.

    A crowd marks a region whose objects are not all annotated, which a part of it still is.

    Args:
        share: (M,) the share of each box's area that is left.
        min_share: the smallest share that stays.
        min_side: the smallest side that stays, in pixels.
        max_aspect: the largest ratio of the longer side to the shorter one that stays.
    """
    boxes = sample["gt_bbox"]
    sides = boxes[:, 2:] - boxes[:, :2]
    short, long = sides.min(axis=1, initial=np.inf), sides.max(axis=1, initial=0)
    stays = (share >= min_share) & (short >= min_side) & (long <= max_aspect * short.clip(SMALLEST_SIDE))
    if "is_crowd" in sample:
        stays |= sample["is_crowd"][:, 0] > 0
    return select_boxes(sample, stays & have_area(boxes))


def without_lost(fields: dict, share: np.ndarray) -> dict:
    """Drop the boxes of which less than a tenth (M,) or less than 2 pixels of a side is left, see `drop_lost_boxes`."""
    return drop_lost_boxes(fields, share, min_share=MIN_SHARE, min_side=MIN_SIDE)
