"""What COCO's evaluation compares: annotations, and results that are in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppdet.utils.boxes import clip_to_image
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import Annotations, column, image_ids_of, integers, load_coco_json, shown

# Ids are whole numbers of 64 bits, which a float does not hold. bbox: x, y, width, height in pixels.
DETECTION = np.dtype([("image_id", "i8"), ("category_id", "i8"), ("score", "f8"), ("bbox", "f8", 4)])
TRUTH = np.dtype([("image_id", "i8"), ("category_id", "i8"), ("area", "f8"), ("iscrowd", "?"), ("bbox", "f8", 4)])


def load_ground_truth(path: str | Path) -> tuple[list[int], np.ndarray]:
    """Read a COCO annotation file: ids of the images, and (M,) TRUTH of its annotations, as pycocotools takes them.

    Boxes are as they stand. Left out are those whose coordinates are not numbers, which the data set counts in the log,
    and those of images that are not in the file. `area` is the box's where the file says none. Boxes marked `ignore`
    count, as in pycocotools.

    Raises:
        DataError: one line that names the file and the entry.
    """
    content = load_coco_json(path)
    image_ids = image_ids_of(content, path)
    rows: Any = content.get("annotations")
    found = Annotations([] if rows is None else rows, image_ids=image_ids, category_ids=(), path=path)
    found.require_boxes()
    truth = np.zeros(len(found), dtype=TRUTH)
    truth["image_id"] = np.array([*image_ids, 0], dtype=np.int64)[found.image]
    truth["category_id"] = found.category_ids
    truth["bbox"] = found.xywh
    with np.errstate(over="ignore", invalid="ignore"):
        truth["area"] = np.where(np.isnan(found.area), found.xywh[:, 2] * found.xywh[:, 3], found.area)
    truth["iscrowd"] = found.crowd
    return image_ids, truth[(found.image >= 0) & np.isfinite(found.xyxy).all(axis=1)]


def truth_of_records(records: Sequence[dict], category_ids: Sequence[int]) -> np.ndarray:
    """Take the ground truth, (M,) TRUTH, from the records of a data set.

    Args:
        records: dicts with `im_id`, and, where there are boxes, `gt_bbox`, `gt_class` and optionally `is_crowd`, as
            `ppdet.data.sources.DetectionDataset` describes them. Of repeated ids the first one counts.
        category_ids: the category id of each class.
    """
    by_id: dict[int, dict] = {}
    for record in records:
        by_id.setdefault(record["im_id"].item(), record)
    parts = []
    for image, record in by_id.items():
        boxes = np.asarray(record.get("gt_bbox", np.empty((0, 4))), dtype=np.float64)
        part = np.zeros(len(boxes), dtype=TRUTH)
        part["image_id"] = image
        part["category_id"] = np.array(category_ids)[record.get("gt_class", np.empty(0, int)).reshape(-1)]
        part["bbox"] = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        part["area"] = part["bbox"][:, 2] * part["bbox"][:, 3]
        part["iscrowd"] = record.get("is_crowd", np.zeros(len(boxes))).reshape(-1).astype(bool)
        parts.append(part)
    return np.concatenate([np.empty(0, TRUTH), *parts])


class Fitted(NamedTuple):
    """truth: (K,) TRUTH. beyond: how many boxes reached beyond their image. outside: how many of these lay outside."""

    truth: np.ndarray
    beyond: int
    outside: int


def fit_to_images(truth: np.ndarray, sizes: dict[int, tuple[int, int]]) -> Fitted:
    """The same boxes that training takes: clipped to the images that were read, without those outside of them.

    No detection reaches beyond its image. Boxes that have no area in the file stay as they are and count as missed, as
    in pycocotools.

    Args:
        truth: (M,) TRUTH. sizes: image id -> height, width of images as they were read; boxes of others stay.
    """
    known = np.isin(truth["image_id"], np.array(list(sizes), dtype=np.int64))
    rows = np.flatnonzero(known & (truth["bbox"][:, 2:] > 0).all(axis=1))
    limits = np.array([sizes[image] for image in truth["image_id"][rows].tolist()], dtype=np.float64).reshape(-1, 2)
    boxes = truth["bbox"][rows]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    clipped, inside = clip_to_image(corners, limits[:, 0], limits[:, 1])
    beyond = (np.abs(clipped - corners) > 0.01).any(axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    fitted = truth.copy()
    fitted["bbox"][rows[beyond]] = np.concatenate([clipped[:, :2], sides], axis=1)[beyond]
    # Where the area is that of the box, and not of a mask, it is that of the clipped box.
    of_box = beyond & (truth["area"][rows] == boxes.prod(axis=1, where=[False, False, True, True]))
    fitted["area"][rows[of_box]] = sides[of_box].prod(axis=1)
    return Fitted(np.delete(fitted, rows[~inside]), int(beyond.sum()), int((~inside).sum()))


def read_results(results: list, name: str) -> np.ndarray:
    """COCO's result entries as (M,) of DETECTION, with NaN and infinity as they stand.

    Raises:
        DataError: an entry is not one of COCO's; the message begins with `name`.
    """
    found = np.zeros(len(results), dtype=DETECTION)
    for key in ("image_id", "category_id"):
        found[key] = integers(results, key, "result", name)
    values = zip(column(results, "score", "result", name), column(results, "bbox", "result", name))
    for number, (score, box) in enumerate(values):
        try:
            found["score"][number] = score
            x, y, width, height = box
            found["bbox"][number] = x, y, width, height
        except (TypeError, ValueError):
            raise DataError(
                f"{name}: result {number} has score {shown(score)} and bbox {shown(box)}, "
                "expected a number and [x, y, width, height]"
            ) from None
    return found
