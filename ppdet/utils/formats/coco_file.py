"""Reading annotation files in COCO's format (https://cocodataset.org/#format-data), for training and evaluation."""

import gc
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.utils.boxes import to_corners
from ppdet.utils.disk.files import NUL_ADVICE, read_text
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import coco_problem, json_kind
from ppdet.utils.ranges import MAX_CLASSES

LARGEST_ID = 2**63 - 1
LARGEST_NUMBER = 1e100  # of a box; products of two such numbers are finite
EXACT = 2**53  # up to this number, a float represents every integer exactly
FLAGS = {0: False, 1: True, "0": False, "1": True}  # Python's true and false equal 1 and 0
# What annotations of other tasks have in place of a bbox.
OTHER_FIELDS = ("keypoints", "segmentation", "segments_info", "caption", "question", "rle", "polygon")


def load_coco_json(path: str | Path) -> dict[str, Any]:
    """Parse a file.

    Raises:
        DataError: it is missing or not a JSON object of COCO. The message says what it is instead.
    """
    path = str(path)
    problem = coco_problem(path)
    if problem:
        raise DataError(problem)
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#x}"
        raise DataError(f"{path} is not JSON in UTF-8 ({byte}): save it as UTF-8; expected COCO annotations") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): expected COCO annotations") from None
    if "\0" in text:
        raise DataError(f"{path} {NUL_ADVICE}")
    is_collecting = gc.isenabled()
    gc.disable()  # there are millions of small objects and no garbage: this halves the time
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        several = ", it has several values, like JSON Lines" if "Extra data" in str(error) else ""
        raise DataError(f"{path} is not JSON ({error}){several}: expected COCO annotations") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory, which {len(text):,} characters of JSON need") from None
    finally:
        if is_collecting:
            gc.enable()
    if not isinstance(content, dict) or not any(key in content for key in ("images", "annotations", "categories")):
        raise DataError(
            f"{path} is not COCO but {json_kind(content)}: expected an object with images, annotations and categories"
        )
    return content


def coco_categories(content: dict[str, Any], path: str | Path) -> tuple[list[int], list[str]]:
    """Return category ids and class names in the order of the ids, which is the order of the classes.

    Raises:
        DataError: there are no categories, one has a wrong id or name, or two have the same id.
    """
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories:
        annotations = content.get("annotations")
        rows = [row for row in annotations if isinstance(row, dict)] if isinstance(annotations, list) else []
        other = f" (its annotations have {_fields(rows)})" if rows and not any("bbox" in row for row in rows) else ""
        raise DataError(f"{path} is not COCO for detection: it has no list 'categories'{other}")
    if len(categories) > MAX_CLASSES:
        raise DataError(f"{path} has {len(categories):,} categories: expected at most {MAX_CLASSES:,}")
    ids = integers(categories, "id", "category", path)
    names = column(categories, "name", "category", path, _is_name, "a text that is not empty")
    pairs = sorted(zip(ids, names), key=lambda pair: pair[0])
    if len(set(ids)) < len(ids):
        raise DataError(f"{path}: two categories have the same id")
    return [identity for identity, _ in pairs], [clean_name(name) for _, name in pairs]


def clean_name(name: Any) -> str:
    """Return a class's name as it is compared: without surrounding blanks, and with accents composed (Unicode's NFC).

    A byte order mark is removed too: some converters wrote it into COCO files.
    """
    return unicodedata.normalize("NFC", str(name)).strip().strip("\ufeff").strip()


def image_ids_of(content: dict[str, Any], path: str | Path) -> list[int]:
    """Return the ids of the images in the order of the file.

    Raises:
        DataError: there is no list of images, an id is not an integer, or two images have the same id.
    """
    if not isinstance(content.get("images"), list):
        raise DataError(f"{path} is not COCO: it has no list 'images'")
    ids = integers(content["images"], "id", "image", path)
    if len(set(ids)) < len(ids):
        repeated, _ = Counter(ids).most_common(1)[0]
        raise DataError(f"{path}: two images have the same id, {repeated}")
    return ids


def file_names_of(content: dict[str, Any], path: str | Path) -> list[str]:
    """Return the file names of the images in the order of the file; DataError for a value that cannot be a path."""
    return column(content["images"], "file_name", "image", path, _is_file_name, "the path of a file")


class Annotations:
    """The M annotations of a file as columns, in the order of the file.

    Args:
        rows: the list `annotations` of the file.
        image_ids: the ids of the file's images.
        category_ids: the ids of the classes.
        path: the file, for errors.

    Attributes:
        image_ids: list of M image ids.
        category_ids: list of M category ids.
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
        if not isinstance(rows, list):
            raise DataError(f"{path} is not COCO: 'annotations' is not a list")
        self.image_ids = integers(rows, "image_id", "annotation", path)
        self.image = _positions(self.image_ids, image_ids)
        self._path, self._other = path, _fields(rows) if rows and not any("bbox" in row for row in rows) else None
        if self._other != "ids alone" and not any("category_id" in row for row in rows):
            self.require_boxes()
        self.category_ids = integers(rows, "category_id", "annotation", path)
        self.category = _positions(self.category_ids, category_ids)
        self.crowd = _flags(rows, "iscrowd", path)
        self.ignore = _flags(rows, "ignore", path)
        self.xywh = _boxes(rows, path)
        self.xywh[~(np.abs(self.xywh) <= LARGEST_NUMBER)] = np.nan  # infinity, too
        self.area = np.array([_number(row.get("area")) for row in rows], dtype=np.float64)

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


def column(
    rows: list,
    key: str,
    kind: str,
    path: str | Path,
    is_right: Callable[[Any], bool] = lambda _: True,
    expected: str = "",
) -> list:
    """Return the values of `key` in all rows.

    Args:
        rows: dicts from JSON.
        key: name of the field, for example "file_name".
        kind: what a row is, for errors, such as "image".
        path: the file, for errors.
        is_right: whether a value is accepted.
        expected: what is expected, for errors.

    Raises:
        DataError: a row does not have the key, or a value is not accepted. The message names the first such row.
    """
    try:
        values = [row[key] for row in rows]
    except (KeyError, TypeError):
        number = next(i for i, row in enumerate(rows) if not isinstance(row, dict) or key not in row)
        raise DataError(f"{path} is not COCO: {kind} {number} has no {key!r}{_id(rows, number, key)}") from None
    wrong = next((i for i, value in enumerate(values) if not is_right(value)), None)
    if wrong is not None:
        found = f"{key} of {kind} {wrong} is {short_repr(values[wrong])}"
        raise DataError(f"{path} is not COCO: {found}, expected {expected}{_id(rows, wrong, key)}")
    return values


def integers(rows: list, key: str, kind: str, path: str | Path) -> list[int]:
    """Return the ids under `key` in all rows: 64-bit integers. 7.0, as tables write it, is accepted; "7" is not.

    Parameters and errors are as for `column`.
    """
    values = column(rows, key, kind, path, _is_whole, "an integer")
    values = [value if type(value) is int else int(value) for value in values]
    if values and (max(values) > LARGEST_ID or min(values) < -LARGEST_ID):
        wrong = next(i for i, value in enumerate(values) if abs(value) > LARGEST_ID)
        raise DataError(
            f"{path}: {key} of {kind} {wrong} is {short_repr(values[wrong])}, "
            f"expected an integer of at most 64 bits{_id(rows, wrong, key)}"
        )
    return values


def short_repr(value: Any) -> str:
    """The repr of a value for an error message, shortened if it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return "too deeply nested"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= EXACT
    return isinstance(value, int) and not isinstance(value, bool)


def _is_file_name(value: Any) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _is_name(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool) and clean_name(value) != ""


def _positions(values: list[int], ids: Iterable[int]) -> np.ndarray:
    index = {identity: i for i, identity in enumerate(ids)}
    return np.fromiter((index.get(value, -1) for value in values), dtype=np.int64, count=len(values))


def _flags(rows: list[dict], key: str, path: str | Path) -> np.ndarray:
    try:
        return np.fromiter((FLAGS[row.get(key, 0)] for row in rows), dtype=bool, count=len(rows))
    except (KeyError, TypeError):
        for number, row in enumerate(rows):
            value = row.get(key, 0)
            if not isinstance(value, (int, float, str)) or value not in FLAGS:
                found = f"{key} of annotation {number} is {short_repr(value)}"
                raise DataError(f"{path}: {found}, expected 0 or 1{_id(rows, number)}") from None
        raise


def _id(rows: list, number: int, key: str = "") -> str:
    """ " (its id is 21)" for a row that an error names by its position; "" if it has no id or the error is about it."""
    identity = rows[number].get("id") if isinstance(rows[number], dict) else None
    return f" (its id is {short_repr(identity)})" if type(identity) is int and key != "id" else ""


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
            raise DataError(f"{found}, expected [x, y, width, height]{_id(rows, number)}")
        try:
            if any(type(side) is bool for side in box):
                raise TypeError
            array[number] = [np.nan if side is None else float(side) for side in box]
        except (TypeError, ValueError, OverflowError):
            found = f"{path}: annotation {number} has bbox {short_repr(box)}"
            raise DataError(f"{found}, where one is not a number{_id(rows, number)}") from None
    return array


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a number."""
    try:
        return np.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _fields(rows: list[dict]) -> str:
    """Which field of another task the annotations have in place of a bbox, or "ids alone"."""
    return next((field for field in OTHER_FIELDS if any(field in row for row in rows)), "ids alone")
