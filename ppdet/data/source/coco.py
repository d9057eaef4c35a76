"""COCO annotations (https://cocodataset.org/#format-data) as records."""

import gc
import json
import os
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.classes import clean_name
from ppdet.data.errors import DataError
from ppdet.data.source.dataset import DetectionDataset, join_path, require_folder
from ppdet.utils.files import read_text
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

FIELDS = ("image", "gt_bbox", "gt_class", "is_crowd")
SMALLEST_SIDE = 1e-5  # pixels; boxes with a shorter side are dropped


@register
@serializable
class COCODataSet(DetectionDataset):
    """A COCO detection data set, read when constructed.

    Args:
        dataset_dir: folder of the data set; the two paths below are relative to it.
        image_dir: folder of the images.
        anno_path: the JSON file.
        data_fields: what the records hold, of image, gt_bbox, gt_class, is_crowd.
        sample_num: only the first so many images, in the file's order; -1 for all.
        load_crowd: keep boxes marked iscrowd. Kept ones are boxes like any other, training targets too.
        allow_empty: keep images without any usable box; false leaves them out (of evaluation too).
        empty_ratio: with allow_empty, keep at most this share of empty images among all kept ones, chosen
            at random once; negative or at least 1 keeps all.
        repeat: how often every image comes in an epoch.

    Classes are numbered in the order of their category ids. Boxes are clipped to their image; boxes that
    are not numbers, without area or outside are dropped; one line of log counts them.
    Raises DataError for a missing folder or file and for a file that is not COCO JSON.
    """

    def __init__(
        self,
        *,
        dataset_dir: Optional[str] = None,
        image_dir: Optional[str] = None,
        anno_path: Optional[str] = None,
        data_fields: Sequence[str] = ("image",),
        sample_num: int = -1,
        load_crowd: bool = False,
        allow_empty: bool = False,
        empty_ratio: float = 1.0,
        repeat: int = 1,
    ) -> None:
        unknown = sorted(set(data_fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"COCODataSet.data_fields: no field {unknown[0]!r}, there are {', '.join(FIELDS)}")
        if not anno_path:
            raise ValueError("COCODataSet.anno_path is not set: name the annotation file, relative to dataset_dir")
        if repeat < 1:
            raise ValueError(f"COCODataSet.repeat is {repeat}, expected at least 1")
        if dataset_dir:
            require_folder(join_path(dataset_dir, None))
        self.anno_path = join_path(dataset_dir, anno_path)
        self.image_dir = join_path(dataset_dir, image_dir)

        content = load_coco_json(self.anno_path)
        self.category_ids, self.class_names = self._categories(content)
        images = _Images(content, self.anno_path)
        if not os.path.isdir(self.image_dir):
            raise DataError(f"image folder {self.image_dir} does not exist: check COCODataSet.image_dir")
        wants_boxes = any(field != "image" for field in data_fields)
        if wants_boxes and "annotations" not in content:
            raise DataError(f"{self.anno_path} has no 'annotations': leave only image in data_fields, or name another")
        boxes = _Boxes(self._annotations(content), images, self.category_ids, self.anno_path, load_crowd)
        del content

        kept = np.arange(len(images.ids))
        if boxes.total or wants_boxes:  # a file without annotations lists images to detect on: all are kept
            kept = _choose(boxes.per_image(len(kept)) == 0, sample_num, allow_empty, empty_ratio)
        elif sample_num >= 0:
            kept = kept[:sample_num]
        self.records = [self._record(i, images, boxes, data_fields) for i in kept.tolist()] * repeat
        if not self.records:
            advice = "; see allow_empty" if images.ids else ", it lists none"
            raise DataError(f"{self.anno_path}: no image is left to use ({boxes.report()}){advice}")
        left_out = len(images.ids) - len(kept)
        logger.info(
            f"{os.path.basename(self.anno_path)}: {len(kept)} images"
            f"{f' ({left_out} without boxes or beyond sample_num left out)' if left_out else ''}"
            f"{f', each {repeat} times' if repeat > 1 else ''}, {len(self.class_names)} classes,"
            f" {boxes.report()}"
        )

    def _categories(self, content: dict[str, Any]) -> tuple[list[int], list[str]]:
        return coco_categories(content, self.anno_path)

    def _annotations(self, content: dict[str, Any]) -> list:
        return content.get("annotations", [])

    def _renumber(self, new: np.ndarray) -> None:
        for record in {id(record): record for record in self.records}.values():  # repeated ones are one object
            if "gt_class" in record:
                record["gt_class"] = new[record["gt_class"]]

    def _record(self, i: int, images: "_Images", boxes: "_Boxes", data_fields: Sequence[str]) -> dict:
        record = {
            "im_id": np.array([images.ids[i]], dtype=np.int64),
            "im_file": os.path.join(self.image_dir, images.files[i]),
            "h": int(images.heights[i]),
            "w": int(images.widths[i]),
        }
        span = slice(boxes.starts[i], boxes.starts[i + 1])
        if "gt_bbox" in data_fields:
            record["gt_bbox"] = boxes.xyxy[span]
        if "gt_class" in data_fields:
            record["gt_class"] = boxes.classes[span]
        if "is_crowd" in data_fields:
            record["is_crowd"] = boxes.crowd[span]
        return record


def load_coco_json(path: str) -> dict[str, Any]:
    """The parsed file; DataError when it is missing or not a JSON object."""
    if not os.path.isfile(path):
        advice = "check dataset_dir and anno_path"
        if "semi_annotations" in path:
            advice = "make it with tools/gen_semi_coco.py, or " + advice
        raise DataError(f"annotation file {path} does not exist: {advice}")
    collecting = gc.isenabled()
    gc.disable()  # millions of small objects, none of them garbage: halves the time
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}): expected COCO annotations") from None
    finally:
        if collecting:
            gc.enable()
    if not isinstance(content, dict):
        raise DataError(f"{path} is not COCO: expected an object with images, annotations, categories")
    return content


def coco_categories(content: dict[str, Any], path: str) -> tuple[list[int], list[str]]:
    """(category ids, class names) in the order of the ids, which is the order of the classes."""
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories:
        raise DataError(f"{path} is not COCO: it has no list 'categories'")
    ids = _column(categories, "id", "category", path, int)
    pairs = sorted(zip(ids, _column(categories, "name", "category", path)), key=lambda pair: pair[0])
    if len({identity for identity, _ in pairs}) < len(pairs):
        raise DataError(f"{path}: two categories have the same id")
    return [identity for identity, _ in pairs], [clean_name(name) for _, name in pairs]


def _column(rows: list, key: str, kind: str, path: str, expected: type = object) -> list:
    """The values of `key` in all rows; DataError for the first row without it or with one of another type."""
    try:
        values = [row[key] for row in rows]
    except (KeyError, TypeError):
        number = next(i for i, row in enumerate(rows) if not isinstance(row, dict) or key not in row)
        raise DataError(f"{path} is not COCO: {kind} {number} has no {key!r}") from None
    if not all(isinstance(value, expected) for value in values):
        number = next(i for i, value in enumerate(values) if not isinstance(value, expected))
        raise DataError(
            f"{path} is not COCO: {key} of {kind} {number} is {values[number]!r}, expected {expected.__name__}"
        )
    return values


class _Images:
    """The file's images as columns, in its order."""

    def __init__(self, content: dict[str, Any], path: str) -> None:
        rows = content.get("images")
        if not isinstance(rows, list):
            raise DataError(f"{path} is not COCO: it has no list 'images'")
        self.ids = _column(rows, "id", "image", path, int)
        self.files = _column(rows, "file_name", "image", path, str)
        try:
            self.widths = np.array(_column(rows, "width", "image", path), dtype=np.int64)
            self.heights = np.array(_column(rows, "height", "image", path), dtype=np.int64)
        except (TypeError, ValueError):
            raise DataError(f"{path}: an image's width or height is not a number") from None
        wrong = np.flatnonzero((self.widths <= 0) | (self.heights <= 0))
        if len(wrong):
            raise DataError(f"{path}: image {self.files[wrong[0]]} has no size, expected width and height in pixels")
        self.index = {identity: i for i, identity in enumerate(self.ids)}
        if len(self.index) < len(self.ids):
            raise DataError(f"{path}: two images have the same id")


class _Boxes:
    """All usable boxes sorted by image: those of image i are rows starts[i] to starts[i + 1]."""

    def __init__(self, rows: list, images: _Images, category_ids: list[int], path: str, load_crowd: bool) -> None:
        if not isinstance(rows, list):
            raise DataError(f"{path} is not COCO: 'annotations' is not a list")
        image = _positions(_column(rows, "image_id", "annotation", path, int), images.index)
        crowd = np.fromiter((bool(row.get("iscrowd", 0)) for row in rows), dtype=bool, count=len(rows))
        classes = _positions(
            _column(rows, "category_id", "annotation", path, int),
            {identity: i for i, identity in enumerate(category_ids)},
        )
        if (classes < 0).any():
            row = rows[int(np.argmax(classes < 0))]
            raise DataError(f"{path}: an annotation has category_id {row['category_id']!r}, which no category has")
        xywh = _box_array(_column(rows, "bbox", "annotation", path), path)
        self.total = len(rows)

        raw = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        is_number = np.isfinite(raw).all(axis=1)
        limits = np.stack([images.widths, images.heights] * 2, axis=1)[image] if len(images.ids) else raw
        xyxy = np.clip(np.where(is_number[:, None], raw, 0.0), 0.0, limits)
        sides = xyxy[:, 2:] - xyxy[:, :2]
        usable = is_number & (sides > SMALLEST_SIDE).all(axis=1)
        known = image >= 0
        wanted = known if load_crowd else known & ~crowd
        self.of_unknown_images = int((~known).sum())
        self.dropped = int((wanted & ~usable).sum())
        keep = wanted & usable
        self.clipped = int((keep & (np.abs(xyxy - raw) > 0.01).any(axis=1)).sum())

        chosen = np.flatnonzero(keep)
        chosen = chosen[np.argsort(image[chosen], kind="stable")]
        self.xyxy = xyxy[chosen].astype(np.float32)
        self.classes = classes[chosen].astype(np.int32)[:, None]
        self.crowd = crowd[chosen].astype(np.int32)[:, None]
        self.starts = np.searchsorted(image[chosen], np.arange(len(images.ids) + 1))

    def per_image(self, images: int) -> np.ndarray:
        return np.diff(self.starts)[:images]

    def report(self) -> str:
        parts = [f"{len(self.xyxy)} boxes"]
        if self.dropped:
            parts.append(f"dropped {self.dropped} without area, outside their image or not numbers")
        if self.clipped:
            parts.append(f"clipped {self.clipped} to their image")
        if self.of_unknown_images:
            parts.append(f"ignored {self.of_unknown_images} annotations of images not in the file")
        return ", ".join(parts)


def _positions(values: list, index: dict) -> np.ndarray:
    return np.fromiter((index.get(value, -1) for value in values), dtype=np.int64, count=len(values))


def _box_array(boxes: list, path: str) -> np.ndarray:
    """(M, 4) float64; a coordinate null counts as not a number."""
    try:
        return np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)
    except (TypeError, ValueError):
        for number, box in enumerate(boxes):
            if not isinstance(box, list) or len(box) != 4:
                raise DataError(
                    f"{path}: annotation {number} has bbox {box!r}, expected [x, y, width, height]"
                ) from None
    try:
        return np.array(boxes, dtype=object).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: a bbox has a coordinate that is no number ({error})") from None


def _choose(is_empty: np.ndarray, sample_num: int, allow_empty: bool, empty_ratio: float) -> np.ndarray:
    """Positions of the images to keep, in the file's order."""
    kept = np.arange(len(is_empty)) if allow_empty else np.flatnonzero(~is_empty)
    if sample_num >= 0:
        kept = kept[:sample_num]
    if allow_empty and 0 <= empty_ratio < 1:
        full, empty = kept[~is_empty[kept]], kept[is_empty[kept]]
        count = min(int(len(full) * empty_ratio / (1 - empty_ratio)), len(empty))
        # Seeded by a constant: every rank and every run must hold the same records.
        drawn = np.random.default_rng(0).choice(empty, size=count, replace=False)
        kept = np.sort(np.concatenate([full, drawn]))
    return kept
