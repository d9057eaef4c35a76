"""Keeping the columns of large annotation files, so that each file is parsed once: by one of the ranks, in one run."""

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save

from ppdet.utils.disk.cache import cache_folder, mark_used, remove_oldest
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.disk.lock import one_process
from ppdet.utils.formats.coco_columns import AnnotationColumns, ImageColumns, read_columns
from ppdet.utils.formats.safetensors_file import SAFETENSORS, read_safetensors
from ppdet.utils.formats.unpickle import RefusedError
from ppdet.utils.packed_texts import PackedTexts

VERSION = 2  # of what is kept; another one is not read
LEAST_BYTES = 2**24  # a smaller file is parsed in a fraction of a second
KEPT = 16  # files of the cache, of about a seventh of the annotation file's size
IMAGES, ANNOTATIONS = "images.", "annotations."
CHECKSUM = "checksum"


def cached_columns(path: str | Path) -> dict[str, Any] | None:
    """Return `read_columns(path)`. That of a large file is kept in the user's cache and read from there the next time.

    The kept columns belong to the file's place, size, inode, and times of its last changes. While a process parses
    the file, others wait for the result.
    """
    name = _identity(path)
    folder = cache_folder("annotations") if name else None
    if folder is None:
        return read_columns(path)
    target = folder / f"{name}{SAFETENSORS}"
    content = _read(target)
    if content is not None:
        return content
    with one_process(target, "parses", str(path)):
        content = _read(target)  # another process may have parsed it
        if content is None:
            content = read_columns(path)
            if content is not None and _identity(path) == name:  # it did not change
                _write(target, content)
                remove_oldest(folder, count=KEPT)
    return content


def _identity(path: str | Path) -> str | None:
    """A name for the columns of a file as it is now; None if it is small or missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if status.st_size < LEAST_BYTES:
        return None
    values = [VERSION, os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _write(target: Path, content: dict[str, Any]) -> None:
    """Keep columns; nothing is kept if the disk is full."""
    images: ImageColumns = content["images"]
    arrays = {f"{IMAGES}{key}": value for key, value in images._asdict().items() if key != "names"}
    arrays |= {f"{IMAGES}names": images.names.data, f"{IMAGES}ends": images.names.ends}
    if content.get("annotations") is not None:
        arrays |= {f"{ANNOTATIONS}{key}": value for key, value in content["annotations"]._asdict().items()}
    rest = {key: value if key == "categories" else None for key, value in content.items()}
    arrays["rest"] = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    arrays[CHECKSUM] = _checksum(arrays)
    with contextlib.suppress(OSError), atomic_path(target) as temporary:
        temporary.write_bytes(save(arrays))


def _read(target: Path) -> dict[str, Any] | None:
    """The columns that were kept; None if there are none, or the file is damaged."""
    try:
        arrays = read_safetensors(target)
        if not np.array_equal(arrays.pop(CHECKSUM), _checksum(arrays)):
            return None
        content: dict[str, Any] = json.loads(arrays.pop("rest").tobytes())
        names = PackedTexts(arrays.pop(f"{IMAGES}names"), arrays.pop(f"{IMAGES}ends"))
        content["images"] = ImageColumns(names=names, **_under(IMAGES, arrays))
        annotations = _under(ANNOTATIONS, arrays)
        if annotations:
            content["annotations"] = AnnotationColumns(**annotations)
        mark_used(target)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RefusedError):
        return None
    return content


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The CRC-32 (1,) uint32 of names, types, shapes and values, which tells whether a file is damaged."""
    value = 0
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(array.data, zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), value))
    return np.array([value], np.uint32)


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
