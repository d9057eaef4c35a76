"""Files on disks and in object storage, through fsspec."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ppdet.utils.disk.files import open_regular, read_regular
from ppdet.utils.disk.images import files_below
from ppdet.utils.errors import DataError, UserError


def is_url(path: str) -> bool:
    """Whether a text is a URL, such as s3://bucket/a.png, and not a path, such as C://images or a/b://c."""
    return re.match(r"[A-Za-z][\w+.:-]+://", path) is not None


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn the exceptions of storage libraries into one line that names `url`."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:  # Arrow's is one too, for a size that a damaged file claims
        raise DataError(f"{url}: it does not fit into the memory") from None
    except Exception as error:  # each storage library has its own classes
        message = reason_of(error)
        raise DataError(message if url in message else f"{url}: {message}") from None


def reason_of(error: Exception) -> str:
    """What an exception of a storage library says, in one line."""
    return getattr(error, "strerror", None) or shortened(" ".join(str(error).split())) or type(error).__name__


def shortened(text: str, longest: int = 1000) -> str:
    """The text, without its end if it is longer than `longest` characters."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def absolute(path: str) -> str:
    """An absolute path without a slash at its end, or the URL without one."""
    return path.rstrip("/") if is_url(path) else os.path.abspath(os.path.expanduser(path))


def locate(root: str, name: str) -> str:
    """Path or URL of the file `name` in the folder `root`; an absolute name, or a URL, is returned unchanged."""
    if is_url(name) or os.path.isabs(name):
        return name
    return f"{root.rstrip('/')}/{name}"


def open_storage(url: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, and the path within that file system.

    Raises:
        DataError: the kind of storage is unknown, or its package is not installed.
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    with storage_errors(url):
        # fsspec would take a path with :: for one storage within another.
        return url_to_fs(url) if is_url(url) else (LocalFileSystem(), url)


def is_local(fs: Any) -> bool:
    """Whether a file system of fsspec is that of this machine."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def open_file(fs: Any, path: str) -> Any:
    """Open a file for reading bytes; on a disk, only a regular file (see `open_regular`)."""
    return open_regular(path) if is_local(fs) else fs.open(path, "rb")


def find_files(fs: Any, path: str) -> list[str]:
    """Paths of all files in a folder and its subfolders, with slashes."""
    return [file.replace(os.sep, "/") for file in files_below(path)] if is_local(fs) else fs.find(path)


def read_file(fs: Any, path: str, largest: int) -> bytes:
    """The bytes of a file or object.

    Raises:
        DataError, OSError: it is larger than `largest` bytes. Other exceptions are those of the storage's library.
    """
    if is_local(fs):
        return read_regular(path, largest)
    with fs.open(path, "rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise DataError(f"{path}: larger than the {largest:,} bytes that are read of such a file")
    return content
