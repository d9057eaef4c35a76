"""Joining the images and boxes of several samples to one."""

from collections.abc import Iterable

import cv2
import numpy as np

from ppdet.data.transforms.box_fields import Area, box_fields, clip_to_area, remaining_share


def join_boxes(samples: Iterable[dict]) -> dict:
    """Return the fields of the boxes of several samples, those of the first one first."""
    parts = [box_fields(sample) for sample in samples]
    return {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}


def put_image(
    canvas: np.ndarray, sample: dict, size: tuple[int, int], corner: tuple[int, int], area: Area
) -> tuple[dict, np.ndarray]:
    """Resize a sample's image, and put what lies within an area of the canvas there.

    Args:
        canvas: (H, W, 3), written into.
        size: (h, w) to which the image is resized. Pixels are averaged where it becomes smaller.
        corner: (x, y) of the image's upper left corner on the canvas; it may be outside.
        area: the part of the canvas that may be written.

    Returns:
        The fields of the boxes on the canvas, clipped to what is seen of the image, and (M,) the share of each that is
        left; empty fields and (0,) for a sample without boxes.
    """
    (old_h, old_w), (h, w), (left, top) = sample["image"].shape[:2], size, corner
    shrinks = h < old_h or w < old_w
    image = cv2.resize(sample["image"], (w, h), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    x1, y1 = max(left, area[0]), max(top, area[1])
    x2, y2 = max(x1, min(left + w, area[2])), max(y1, min(top + h, area[3]))
    canvas[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
    fields = box_fields(sample)
    if "gt_bbox" not in fields:
        return fields, np.zeros(0)
    scale = np.array([w / old_w, h / old_h] * 2, dtype=np.float32)
    whole = fields["gt_bbox"] * scale + np.array([left, top] * 2, dtype=np.float32)
    fields["gt_bbox"] = clip_to_area(whole, (x1, y1, x2, y2))
    return fields, remaining_share(whole, fields["gt_bbox"])
