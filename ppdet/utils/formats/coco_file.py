"""COCO's annotation files (https://cocodataset.org/#format-data), as training and evaluation both read them."""

import gc
import json
import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.utils.disk.files import NULS, read_text
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import describe_json, describe_path

LARGEST_ID = 2**63 - 1
EXACT = 2**53  # the largest number up to which a float is the whole number that was written
FLAGS = {0: False, 1: True, "0": False, "1": True}  # true and false are 1 and 0 in Python


def load_coco_json(path: str | Path) -> dict[str, Any]:
    """The parsed file.

    Raises:
        DataError: it is missing or not a JSON object, with what it is instead.
    """
    path = str(path)
    found = describe_path(path)
    if found:
        raise DataError(found)
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is {error.object[error.start]:#x}"
        raise DataError(f"{path} is not JSON in UTF-8 ({byte}): save it as UTF-8; expected COCO annotations") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): expected COCO annotations") from None
    if "\0" in text:
        raise DataError(f"{path} {NULS}")
    collecting = gc.isenabled()
    gc.disable()  # millions of small objects, none of them garbage: halves the time
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        several = ", it has several values, as JSON Lines has" if "Extra data" in str(error) else ""
        raise DataError(f"{path} is not JSON ({error}){several}: expected COCO annotations") from None
    finally:
        if collecting:
            gc.enable()
    if not isinstance(content, dict) or not any(key in content for key in ("images", "annotations", "categories")):
        raise DataError(
            f"{path} is not COCO but {describe_json(content)}: "
            "expected an object with images, annotations and categories"
        )
    return content


def coco_categories(content: dict[str, Any], path: str | Path) -> tuple[list[int], list[str]]:
    """(category ids, class names) in the order of the ids, which is the order of the classes.

    Raises:
        DataError: there are none, or one is not as it should be, or two have one id.
    """
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories:
        rows = content.get("annotations")
        rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        other = f" (its annotations have {_fields(rows)})" if rows and not any("bbox" in row for row in rows) else ""
        raise DataError(f"{path} is not COCO for detection: it has no list 'categories'{other}")
    ids = whole_numbers(categories, "id", "category", path)
    names = column(categories, "name", "category", path, _is_name, "a text that is not empty")
    pairs = sorted(zip(ids, names), key=lambda pair: pair[0])
    if len(set(ids)) < len(ids):
        raise DataError(f"{path}: two categories have the same id")
    return [identity for identity, _ in pairs], [clean_name(name) for _, name in pairs]


def clean_name(name: object) -> str:
    """A class's name as it is compared: without blanks around it, accents in Unicode's composed form (NFC).

    A byte order mark is none of its letters: converters that took it for one wrote it into COCO files.
    """
    return unicodedata.normalize("NFC", str(name)).strip().strip("\ufeff").strip()


def image_ids_of(content: dict[str, Any], path: str | Path) -> list[int]:
    """The ids of the images, in the file's order.

    Raises:
        DataError: there is no list of images, one has no whole number for an id, or two have the same.
    """
    if not isinstance(content.get("images"), list):
        raise DataError(f"{path} is not COCO: it has no list 'images'")
    ids = whole_numbers(content["images"], "id", "image", path)
    if len(set(ids)) < len(ids):
        seen: set[int] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))
        raise DataError(f"{path}: two images have the same id, {twice}")
    return ids


def file_names_of(content: dict[str, Any], path: str | Path) -> list[str]:
    """The file names of the images, in the file's order; DataError for one that cannot be a file's."""
    return column(content["images"], "file_name", "image", path, _is_file_name, "the path of a file")


class Annotations:
    """A file's annotations as columns of M, in its order.

    Attributes:
        image_ids, category_ids: M numbers as they stand.
        image, category: (M,) int64 positions among the given ids, -1 where the id is not among them.
        xywh: (M, 4) float64 x, y, width, height in pixels as they stand; NaN where a coordinate is null, and where
            there is no bbox.
        area: (M,) float64, NaN where there is none.
        crowd, ignore: (M,) bool. PaddleDetection and MMDetection train on neither; pycocotools does not look at
            `ignore`.

    Raises DataError, naming the annotation, for what is not COCO.
    """

    def __init__(self, rows: Any, *, image_ids: Iterable[int], category_ids: Iterable[int], path: str | Path) -> None:
        if not isinstance(rows, list):
            raise DataError(f"{path} is not COCO: 'annotations' is not a list")
        self.image_ids = whole_numbers(rows, "image_id", "annotation", path)
        self.image = _positions(self.image_ids, image_ids)
        self._path, self._other = path, _fields(rows) if rows and not any("bbox" in row for row in rows) else None
        if self._other != "ids alone" and not any("category_id" in row for row in rows):
            self.require_boxes()
        self.category_ids = whole_numbers(rows, "category_id", "annotation", path)
        self.category = _positions(self.category_ids, category_ids)
        self.crowd = _flags(rows, "iscrowd", path)
        self.ignore = _flags(rows, "ignore", path)
        self.xywh = _boxes(rows, path)
        self.area = np.array([_number(row.get("area")) for row in rows], dtype=np.float64)

    def __len__(self) -> int:
        return len(self.image)

    def require_boxes(self) -> None:
        """Raises DataError where there are annotations, and none of them has a bbox."""
        if self._other:
            raise DataError(f"{self._path} has no boxes: its annotations have {self._other}, but no bbox")

    @property
    def xyxy(self) -> np.ndarray:
        """(M, 4) float64 x1, y1, x2, y2."""
        with np.errstate(over="ignore", invalid="ignore"):  # beyond all numbers is no number
            return np.concatenate([self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]], axis=1)


def column(
    rows: list,
    key: str,
    kind: str,
    path: str | Path,
    is_right: Callable[[Any], bool] = lambda _: True,
    expected: str = "",
) -> list:
    """The values of `key` in all rows; DataError for the first row without it, or with a value that is not right."""
    try:
        values = [row[key] for row in rows]
    except (KeyError, TypeError):
        number = next(i for i, row in enumerate(rows) if not isinstance(row, dict) or key not in row)
        raise DataError(f"{path} is not COCO: {kind} {number} has no {key!r}{_id(rows, number, key)}") from None
    wrong = next((i for i, value in enumerate(values) if not is_right(value)), None)
    if wrong is not None:
        found = f"{key} of {kind} {wrong} is {shown(values[wrong])}"
        raise DataError(f"{path} is not COCO: {found}, expected {expected}{_id(rows, wrong, key)}")
    return values


def whole_numbers(rows: list, key: str, kind: str, path: str | Path) -> list[int]:
    """The ids of all rows: whole numbers of 64 bits. 7.0 is one, as tables write it, "7" is none."""
    values = column(rows, key, kind, path, _is_whole, "a whole number")
    values = [value if type(value) is int else int(value) for value in values]
    if values and (max(values) > LARGEST_ID or min(values) < -LARGEST_ID):
        wrong = next(i for i, value in enumerate(values) if abs(value) > LARGEST_ID)
        raise DataError(
            f"{path}: {key} of {kind} {wrong} is {shown(values[wrong])}, "
            f"expected a whole number of at most 64 bits{_id(rows, wrong, key)}"
        )
    return values


def shown(value: Any) -> str:
    """A value in an error message, cut where it is long."""
    text = repr(value)
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
                found = f"{key} of annotation {number} is {shown(value)}"
                raise DataError(f"{path}: {found}, expected 0 or 1{_id(rows, number)}") from None
        raise


def _id(rows: list, number: int, key: str = "") -> str:
    """ " (its id is 21)", of an entry that is named by its position, where it has one and the error is not about it."""
    identity = rows[number].get("id") if isinstance(rows[number], dict) else None
    return f" (its id is {shown(identity)})" if type(identity) is int and key != "id" else ""


def _boxes(rows: list[dict], path: str | Path) -> np.ndarray:
    boxes = [row.get("bbox") for row in rows]
    try:
        array = np.array(boxes, dtype=np.float64)
        # true would be 1
        if array.shape == (len(boxes), 4) and not any(type(side) is bool for box in boxes for side in box):
            return array
    except (TypeError, ValueError, OverflowError):
        pass  # one of them is not four numbers: which one?
    array = np.full((len(boxes), 4), np.nan)
    for number, box in enumerate(boxes):
        if box is None or box == []:
            continue
        if not isinstance(box, list) or len(box) != 4:
            found = f"{path}: annotation {number} has bbox {shown(box)}"
            raise DataError(f"{found}, expected [x, y, width, height]{_id(rows, number)}")
        try:
            if any(type(side) is bool for side in box):
                raise TypeError
            array[number] = [np.nan if side is None else float(side) for side in box]
        except (TypeError, ValueError, OverflowError):
            found = f"{path}: annotation {number} has bbox {shown(box)}"
            raise DataError(f"{found}, where one is no number{_id(rows, number)}") from None
    return array


def _number(value: Any) -> float:
    """The number that `area` is; NaN where it is none."""
    try:
        return np.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def _fields(rows: list[dict]) -> str:
    """What the annotations have besides ids, of what other tasks put there."""
    fields = ("keypoints", "segmentation", "segments_info", "caption", "question", "rle", "polygon")
    found: str | None = next((field for field in fields if any(field in row for row in rows)), None)
    return found or "ids alone"
