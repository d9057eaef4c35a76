"""Reading the files of data sets from object storage, with retries, and with copies of some of them on this disk."""

import contextlib
import errno
import hashlib
import os
import time
from pathlib import Path

from ppdet.utils.disk.cache import cache_place, mark_used, remove_oldest
from ppdet.utils.disk.files import atomic_path, read_regular
from ppdet.utils.disk.object_storage import find_files, open_storage, read_file, reason_of, shortened, storage_errors
from ppdet.utils.errors import DataError, UserError
from ppdet.utils.extras import require_package

SIZE_VARIABLE = "PPDET_IMAGE_CACHE_GIB"
DEFAULT_GIB = "20"
SHARDS = 256  # folders of the cache, each with an equal part of its size, so that nobody lists all copies
PAUSES = (0.5, 2.0)  # seconds before a file is asked for again
ON_DISK = ("file://", "local://")  # URLs of files of this machine, which need no copies


def read_remote(url: str, largest: int) -> bytes:
    """Return the bytes of a file in object storage, from its copy on this disk if there is one.

    Copies are kept in the folder images of PPDET_CACHE_HOME (~/.cache/ppdet), up to PPDET_IMAGE_CACHE_GIB (20) GiB.
    Those that were not read for the longest time are removed first. With 0, where the folder cannot be written, and of
    files of this machine (file://), there are no copies. A copy is used for as long as it is there: images in object
    storage are expected not to change.

    Raises:
        OSError: the file does not exist, is larger than `largest` bytes, or could not be read three times; or its name
            has "::", which is how fsspec names one storage within another.
        DataError: the kind of storage is unknown, or a package is not installed.
    """
    copy = _copy_of(url)
    if copy is not None:
        with contextlib.suppress(OSError):
            data = read_regular(copy, largest)
            mark_used(copy)
            return data
    data = _fetch(url, largest)
    if copy is not None:
        with contextlib.suppress(OSError):  # a full disk
            with atomic_path(copy) as temporary:
                temporary.write_bytes(data)
            remove_oldest(copy.parent, size=cache_bytes() / SHARDS)
    return data


def forget_copy(url: str) -> None:
    """Remove the copy of a file, so that it is fetched again: a damaged one may have been replaced in the storage."""
    copy = _copy_of(url)
    if copy is not None:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)


def find_remote(url: str) -> list[str]:
    """Return the sorted URLs of all files below a folder in object storage.

    Raises:
        DataError: it cannot be listed.
    """
    require_package(DataError, "fsspec")
    fs, path = open_storage(url)
    with storage_errors(url):
        names = find_files(fs, path)
    folder, top = path.rstrip("/"), url.rstrip("/")
    return sorted(top + name.removeprefix(folder) for name in names)


def cache_bytes() -> float:
    """The size that all copies together may have.

    Raises:
        DataError: the environment variable is not a number.
    """
    text = os.environ.get(SIZE_VARIABLE) or DEFAULT_GIB
    with contextlib.suppress(ValueError):
        if float(text) >= 0:
            return float(text) * 2**30
    raise DataError(f"the environment variable {SIZE_VARIABLE} is {text!r}: expected a number of GiB, 0 for no copies")


def _copy_of(url: str) -> Path | None:
    """Where the copy of a file is kept, if that can be written; None if it gets no copy."""
    if not cache_bytes() or url.startswith(ON_DISK):
        return None
    name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return cache_place(f"images/{int(name[:8], 16) % SHARDS:02x}") / name


def _fetch(url: str, largest: int) -> bytes:
    if "::" in url.partition("://")[2]:  # the name in an annotation file would choose the storage, such as http://
        raise OSError(errno.EINVAL, "names with :: are not read from object storage", url)
    require_package(DataError, "fsspec")
    fs, path = open_storage(url)
    for pause in (*PAUSES, None):
        try:
            return read_file(fs, path, largest)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from None
        except UserError:
            raise OSError(errno.EFBIG, f"larger than the {largest:,} bytes that are read of such a file", url) from None
        except Exception as error:  # each storage library has its own classes
            if pause is None or isinstance(error, (PermissionError, IsADirectoryError)):
                raise OSError(errno.EIO, shortened(reason_of(error), 200), url) from None
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")
