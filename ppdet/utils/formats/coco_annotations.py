"""The annotations of a file in COCO's format as columns, checked."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.utils.boxes import to_corners
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_columns import AnnotationColumns
from ppdet.utils.formats.coco_file import fields_of, id_hint, integers, short_repr
from ppdet.utils.positions import positions

LARGEST_NUMBER = 1e100  # of a box; products of two such numbers are finite
FLAGS = {0: False, 1: True, "0": False, "1": True}  # Python's true and false equal 1 and 0


class Annotations:
    """The M annotations of a file as columns, in the order of the file.

    Args:
        rows: the list `annotations` of the file, or its columns.
        image_ids: the ids of the file's images.
        category_ids: the ids of the classes.
        path: the file, for errors.

    Attributes:
        image_ids: (M,) int64.
        category_ids: (M,) int64.
        image: (M,) int64 positions of the images among the given ids, -1 where the id is not among them.
        category: (M,) int64 positions of the categories, likewise.
        xywh: (M, 4) float64 x, y, width, height in pixels, unchecked; NaN where a coordinate or the bbox is missing, or
            the coordinate is infinite.
        area: (M,) float64, NaN if it is missing.
        crowd: (M,) bool, iscrowd. PaddleDetection and MMDetection do not train on such boxes.
        ignore: (M,) bool. PaddleDetection and MMDetection do not train on these either; pycocotools does not read it.

    Raises:
        DataError: something is not COCO. The message names the annotation.
    """

    def __init__(self, rows: Any, *, image_ids: Iterable[int], category_ids: Iterable[int], path: str | Path) -> None:
        self._path, self._other = path, ""  # the field of another task that annotations have in place of a bbox
        columns = rows if isinstance(rows, AnnotationColumns) else self._columns(rows)
        self.image_ids, self.category_ids = columns.image_ids, columns.category_ids
        self.image, self.category = positions(self.image_ids, image_ids), positions(self.category_ids, category_ids)
        self.crowd, self.ignore, self.area = columns.crowd, columns.ignore, columns.area
        self.xywh = columns.xywh
        self.xywh[~(np.abs(self.xywh) <= LARGEST_NUMBER)] = np.nan  # infinity, too

    def _columns(self, rows: Any) -> AnnotationColumns:
        path = self._path
        if not isinstance(rows, list):
            raise DataError(f"{path} is not COCO: 'annotations' is not a list")
        image_ids = integers(rows, "image_id", "annotation", path)
        if rows and not any("bbox" in row for row in rows):
            self._other = fields_of(rows)
        if self._other != "ids alone" and not any("category_id" in row for row in rows):
            self.require_boxes()
        return AnnotationColumns(
            image_ids=np.array(image_ids, dtype=np.int64),
            category_ids=np.array(integers(rows, "category_id", "annotation", path), dtype=np.int64),
            crowd=_flags(rows, "iscrowd", path),
            ignore=_flags(rows, "ignore", path),
            xywh=_boxes(rows, path),
            area=np.array([_number(row.get("area")) for row in rows], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.image)

    def require_boxes(self) -> None:
        """Raise DataError if there are annotations, but none of them has a bbox."""
        if self._other:
            raise DataError(f"{self._path} has no boxes: its annotations have {self._other}, but no bbox")

    def require_known_categories(self) -> None:
        """Raise DataError if an annotation has the id of no category."""
        unknown = np.flatnonzero(self.category < 0)
        if len(unknown):
            identity = self.category_ids[unknown[0]]
            raise DataError(f"{self._path}: an annotation has category_id {identity}, which no category has")

    @property
    def xyxy(self) -> np.ndarray:
        """(M, 4) float64 x1, y1, x2, y2."""
        return to_corners(self.xywh)


def _flags(rows: list[dict], key: str, path: str | Path) -> np.ndarray:
    try:
        return np.fromiter((FLAGS[row.get(key, 0)] for row in rows), dtype=bool, count=len(rows))
    except (KeyError, TypeError):
        for number, row in enumerate(rows):
            value = row.get(key, 0)
            if not isinstance(value, (int, float, str)) or value not in FLAGS:
                found = f"{key} of annotation {number} is {short_repr(value)}"
                raise DataError(f"{path}: {found}, expected 0 or 1{id_hint(rows, number)}") from None
        raise


def _boxes(rows: list[dict], path: str | Path) -> np.ndarray:
    boxes = [row.get("bbox") for row in rows]
    try:
        array = np.array(boxes, dtype=np.float64)
        # NumPy would read true as 1
        if array.shape == (len(boxes), 4) and not any(type(side) is bool for box in boxes for side in box or ()):
            return array
    except (TypeError, ValueError, OverflowError):
        pass  # one of them is not four numbers: below, the first such one is named
    array = np.full((len(boxes), 4), np.nan)
    for number, box in enumerate(boxes):
        if box is None or box == []:
            continue
        if not isinstance(box, list) or len(box) != 4:
            found = f"{path}: annotation {number} has bbox {short_repr(box)}"
            raise DataError(f"{found}, expected [x, y, width, height]{id_hint(rows, number)}")
        try:
            if any(type(side) is bool for side in box):
                raise TypeError
            array[number] = [np.nan if side is None else float(side) for side in box]
        except (TypeError, ValueError, OverflowError):
            found = f"{path}: annotation {number} has bbox {short_repr(box)}"
            raise DataError(f"{found}, where one is not a number{id_hint(rows, number)}") from None
    return array


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a number."""
    try:
        return np.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
