"""Reading large annotation files in COCO's format at once into columns of numbers, by msgspec."""

import contextlib
import gc
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from ppdet.utils.disk.files import read_regular
from ppdet.utils.packed_texts import PackedTexts

LARGEST_SIDE = 2**24  # pixels; files with larger images are irregular
PIECE = 2**24  # bytes of a file that are decoded at once to check its encoding


class ImageColumns(NamedTuple):
    """The N images of a file.

    ids: (N,) int64. names: their file names. widths, heights: (N,) float64, in pixels.
    """

    ids: np.ndarray
    names: PackedTexts
    widths: np.ndarray
    heights: np.ndarray


class AnnotationColumns(NamedTuple):
    """The M annotations of a file.

    image_ids, category_ids: (M,) int64. xywh: (M, 4) float64, unchecked. area: (M,) float64, NaN if it is missing.
    crowd, ignore: (M,) bool.
    """

    image_ids: np.ndarray
    category_ids: np.ndarray
    xywh: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: float
    height: float


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: Literal[0, 1] = 0
    ignore: Literal[0, 1] = 0


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: Any = msgspec.UNSET
    annotations: list[_Annotation] | msgspec.UnsetType | None = msgspec.UNSET


def read_columns(path: str | Path) -> dict[str, Any] | None:
    """Parse a regular file: all images have an id, a name and sizes, all annotations ids and a box of four numbers.

    Fields that detection does not need, such as polygons, are skipped, which takes a fifth of the time and a quarter of
    the memory of the json module.

    Returns:
        The object of the file with `ImageColumns` and, if there are any, `AnnotationColumns`; None if the file cannot
        be read or is irregular. Whoever parses it then finds what is wrong, or what is unusual but right.
    """
    try:
        data = read_regular(path)
        _require_text(data)
        with no_garbage_collection():
            file = msgspec.json.decode(data, type=_File)
            del data
            content: dict[str, Any] = {"images": _image_columns(file.images)}
            if file.categories is not msgspec.UNSET:
                content["categories"] = file.categories
            if file.annotations is not msgspec.UNSET:
                content["annotations"] = None if file.annotations is None else _annotation_columns(file.annotations)
    except (OSError, ValueError, OverflowError, MemoryError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return content


def _require_text(data: bytes) -> None:
    """Raise ValueError if the bytes are not UTF-8: msgspec does not check what it skips."""
    if not data.isascii():
        view = memoryview(data)
        start = 0
        while start < len(view):
            end = min(start + PIECE, len(view))
            while end < len(view) and view[end] & 0xC0 == 0x80:  # do not divide a character
                end += 1
            str(view[start:end], "utf-8")
            start = end


def _image_columns(images: list[_Image]) -> ImageColumns:
    count = len(images)
    names = [image.file_name for image in images]
    if "\0" in "".join(names):
        raise ValueError("no path has NUL")
    widths = np.fromiter((image.width for image in images), np.float64, count)
    heights = np.fromiter((image.height for image in images), np.float64, count)
    if not ((np.minimum(widths, heights) >= 1) & (np.maximum(widths, heights) <= LARGEST_SIDE)).all():
        raise ValueError("no image has such a size")
    return ImageColumns(
        ids=_ids([image.id for image in images]), names=PackedTexts.of(names), widths=widths, heights=heights
    )


def _annotation_columns(rows: list[_Annotation]) -> AnnotationColumns:
    count = len(rows)

    def values(name: str) -> Iterator[Any]:  # faster than a generator
        return map(attrgetter(name), rows)

    sides = chain.from_iterable(values("bbox"))
    return AnnotationColumns(
        image_ids=_ids(list(values("image_id"))),
        category_ids=_ids(list(values("category_id"))),
        xywh=np.fromiter(sides, np.float64, 4 * count).reshape(count, 4),
        area=np.array(list(values("area")), np.float64),
        crowd=np.fromiter(values("iscrowd"), bool, count),
        ignore=np.fromiter(values("ignore"), bool, count),
    )


def _ids(values: list[int]) -> np.ndarray:
    """The ids (N,) int64; OverflowError or ValueError if one has more bits."""
    ids = np.array(values, dtype=np.int64) if values else np.zeros(0, np.int64)
    if len(ids) and ids.min() == np.iinfo(np.int64).min:
        raise ValueError("no id is so low")
    return ids


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A context in which Python does not search for reference cycles.

    Parsing makes millions of small objects and no cycles; the searches take half of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
