"""Reading annotation files in COCO's format (https://cocodataset.org/#format-data), for training and evaluation."""

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppdet.utils.disk.files import NUL_ADVICE, read_text
from ppdet.utils.errors import DataError
from ppdet.utils.formats.annotation_kinds import coco_problem, json_kind
from ppdet.utils.formats.coco_cache import cached_columns
from ppdet.utils.formats.coco_columns import ImageColumns, no_garbage_collection
from ppdet.utils.ranges import MAX_CLASSES

LARGEST_ID = 2**63 - 1
EXACT = 2**53  # up to this number, a float represents every integer exactly
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
    try:
        with no_garbage_collection():
            content = json.loads(text)
    except (ValueError, RecursionError) as error:
        several = ", it has several values, like JSON Lines" if "Extra data" in str(error) else ""
        raise DataError(f"{path} is not JSON ({error}){several}: expected COCO annotations") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory, which {len(text):,} characters of JSON need") from None
    if not isinstance(content, dict) or not any(key in content for key in ("images", "annotations", "categories")):
        raise DataError(
            f"{path} is not COCO but {json_kind(content)}: expected an object with images, annotations and categories"
        )
    return content


def load_coco(path: str | Path) -> dict[str, Any]:
    """Parse a file as `load_coco_json` does, but into columns, in little time and memory, where that is possible.

    Returns:
        The object of the file. Its images are `ImageColumns` and its annotations `AnnotationColumns`, or both are lists
        of dicts.

    Raises:
        DataError: as `load_coco_json`.
    """
    content = None if coco_problem(str(path)) else cached_columns(path)
    return load_coco_json(path) if content is None else content


def coco_categories(content: dict[str, Any], path: str | Path) -> tuple[list[int], list[str]]:
    """Return category ids and class names in the order of the ids, which is the order of the classes.

    Raises:
        DataError: there are no categories, one has a wrong id or name, or two have the same id.
    """
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories:
        annotations = content.get("annotations")
        rows = [row for row in annotations if isinstance(row, dict)] if isinstance(annotations, list) else []
        other = f" (its annotations have {fields_of(rows)})" if rows and not any("bbox" in row for row in rows) else ""
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
    images = content.get("images")
    if not isinstance(images, (list, ImageColumns)):
        raise DataError(f"{path} is not COCO: it has no list 'images'")
    ids = images.ids.tolist() if isinstance(images, ImageColumns) else integers(images, "id", "image", path)
    if len(set(ids)) < len(ids):
        repeated, _ = Counter(ids).most_common(1)[0]
        raise DataError(f"{path}: two images have the same id, {repeated}")
    return ids


def file_names_of(content: dict[str, Any], path: str | Path) -> list[str]:
    """Return the file names of the images in the order of the file; DataError for a value that cannot be a path."""
    images = content["images"]
    if isinstance(images, ImageColumns):
        return list(images.names)
    return column(images, "file_name", "image", path, _is_file_name, "the path of a file")


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
        raise DataError(f"{path} is not COCO: {kind} {number} has no {key!r}{id_hint(rows, number, key)}") from None
    wrong = next((i for i, value in enumerate(values) if not is_right(value)), None)
    if wrong is not None:
        found = f"{key} of {kind} {wrong} is {short_repr(values[wrong])}"
        raise DataError(f"{path} is not COCO: {found}, expected {expected}{id_hint(rows, wrong, key)}")
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
            f"expected an integer of at most 64 bits{id_hint(rows, wrong, key)}"
        )
    return values


def fields_of(rows: list[dict]) -> str:
    """Which field of another task the annotations have in place of a bbox, or "ids alone"."""
    return next((field for field in OTHER_FIELDS if any(field in row for row in rows)), "ids alone")


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


def id_hint(rows: list, number: int, key: str = "") -> str:
    """ " (its id is 21)" for a row that an error names by its position; "" if it has no id or the error is about it."""
    identity = rows[number].get("id") if isinstance(rows[number], dict) else None
    return f" (its id is {short_repr(identity)})" if type(identity) is int and key != "id" else ""
