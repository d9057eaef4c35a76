"""Reading annotations, and detections from a result file, for COCO's evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppdet.utils.boxes import clip_to_image, to_corners, to_sizes
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_file import column, image_ids_of, integers, load_coco, short_repr

# Ids are integers of 64 bits, which a float cannot represent. bbox: x, y, width, height in pixels.
DETECTION = np.dtype([("image_id", "i8"), ("category_id", "i8"), ("score", "f8"), ("bbox", "f8", 4)])
TRUTH = np.dtype([("image_id", "i8"), ("category_id", "i8"), ("area", "f8"), ("iscrowd", "?"), ("bbox", "f8", 4)])


def load_ground_truth(path: str | Path) -> tuple[list[int], np.ndarray]:
    """Read a COCO annotation file as pycocotools does.

    Boxes are not changed. Boxes with coordinates that are not numbers are left out (the data set counts them in the
    log), and so are boxes of images that are not in the file. A missing `area` is the area of the box. The field
    `ignore` has no effect, as in pycocotools.

    Returns:
        The ids of the images, and the annotations (M,) of type `TRUTH`.

    Raises:
        DataError: the file is not valid; one line names the file and the entry.
    """
    content = load_coco(path)
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


def detections_of_rows(rows: np.ndarray, image_ids: np.ndarray, category_ids: Sequence[int]) -> tuple[np.ndarray, int]:
    """The detections of a detector as rows of a result file.

    Args:
        rows: (M, 6) [class index, score, x1, y1, x2, y2] in pixels; rows of class -1 are padding.
        image_ids: (M,) the image of each row.
        category_ids: COCO category id of each class.

    Returns:
        Detections (K,) of type `DETECTION`, and the number of rows with NaN or infinity, which are left out.
    """
    real = rows[:, 0] != -1
    finite = np.isfinite(rows).all(axis=1)
    kept = real & finite
    rows = rows[kept]
    found = np.zeros(len(rows), dtype=DETECTION)
    found["image_id"] = image_ids[kept]
    found["category_id"] = np.array(category_ids, dtype=np.int64)[rows[:, 0].astype(np.int64)]
    found["score"] = rows[:, 1]
    found["bbox"][:, :2] = rows[:, 2:4]
    found["bbox"][:, 2:] = rows[:, 4:6] - rows[:, 2:4]
    return found, int((real & ~finite).sum())


def truth_of_records(records: Sequence[dict], category_ids: Sequence[int]) -> np.ndarray:
    """The annotations (M,) of type `TRUTH` in the records of a data set.

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
        part["bbox"] = to_sizes(boxes)
        part["area"] = part["bbox"][:, 2] * part["bbox"][:, 3]
        part["iscrowd"] = record.get("is_crowd", np.zeros(len(boxes))).reshape(-1).astype(bool)
        parts.append(part)
    return np.concatenate([np.empty(0, TRUTH), *parts])


class Fitted(NamedTuple):
    """Annotations that were clipped to their images.

    truth: (K,) of type `TRUTH`.
    beyond: number of boxes that extended beyond their image.
    outside: number of those that were completely outside and are left out.
    """

    truth: np.ndarray
    beyond: int
    outside: int


def fit_to_images(truth: np.ndarray, sizes: dict[int, tuple[int, int]]) -> Fitted:
    """Clip annotations to their images, as training does, since no detection extends beyond its image.

    Boxes without an area in the file are not changed; they count as missed, as in pycocotools.

    Args:
        truth: (M,) of type `TRUTH`.
        sizes: height and width of images by their id; boxes of other images are not changed.
    """
    known = np.isin(truth["image_id"], np.array(list(sizes), dtype=np.int64))
    rows = np.flatnonzero(known & (truth["bbox"][:, 2:] > 0).all(axis=1))
    limits = np.array([sizes[image] for image in truth["image_id"][rows].tolist()], dtype=np.float64).reshape(-1, 2)
    boxes = truth["bbox"][rows]
    corners = to_corners(boxes)
    clipped, inside = clip_to_image(corners, limits[:, 0], limits[:, 1])
    beyond = (np.abs(clipped - corners) > 0.01).any(axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    fitted = truth.copy()
    fitted["bbox"][rows[beyond]] = np.concatenate([clipped[:, :2], sides], axis=1)[beyond]
    # If the area is the box's and not a mask's, it becomes the area of the clipped box.
    is_box_area = beyond & (truth["area"][rows] == boxes.prod(axis=1, where=[False, False, True, True]))
    fitted["area"][rows[is_box_area]] = sides[is_box_area].prod(axis=1)
    return Fitted(np.delete(fitted, rows[~inside]), int(beyond.sum()), int((~inside).sum()))


def read_results(results: list, name: str) -> np.ndarray:
    """Entries of a COCO result file as (M,) of type `DETECTION`; NaN and infinity are kept.

    Raises:
        DataError: an entry is not valid; the message begins with `name`.
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
        except (TypeError, ValueError, OverflowError):
            raise DataError(
                f"{name}: result {number} has score {short_repr(score)} and bbox {short_repr(box)}, "
                "expected a number and [x, y, width, height]"
            ) from None
    return found
