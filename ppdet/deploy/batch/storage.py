"""Folders and files on disks and in object storage, through fsspec."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ppdet.utils.disk.files import atomic_path
from ppdet.utils.disk.lock import locked
from ppdet.utils.errors import DataError, UserError


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn the exceptions of storage libraries into one line that names `url`."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # each storage library has its own classes
        message = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DataError(message if url in message else f"{url}: {message}") from None


def is_url(path: str) -> bool:
    return "://" in path


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

    with storage_errors(url):
        return url_to_fs(url)


class Folder:
    """A folder for results, on a disk or in object storage. A file in it is complete or absent."""

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self.fs, self.path = open_storage(self.url)
        protocol = self.fs.protocol
        self.is_local = "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Within the block no other process works in the folder. Object storage has no locks.

        Raises:
            LockedError: another process works there.
        """
        if not self.is_local:
            yield
            return
        path = Path(self.path)
        is_new = not path.is_dir()
        try:
            with locked(path / ".lock", what=f"{self.url}: a batch job", advice="wait, or name another --output"):
                yield
        finally:
            if is_new:  # remove the folder if nothing was written
                with suppress(OSError):
                    path.rmdir()

    def names(self, folder: str) -> set[str]:
        """Names of the files in a subfolder; an empty set if the subfolder does not exist."""
        with storage_errors(self.url):
            self.fs.invalidate_cache()
            try:
                return {PurePosixPath(path).name for path in self.fs.ls(f"{self.path}/{folder}", detail=False)}
            except FileNotFoundError:
                return set()

    def open(self, name: str) -> Any:
        """Open a file for reading bytes."""
        with storage_errors(f"{self.url}/{name}"):
            return self.fs.open(f"{self.path}/{name}", "rb")

    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name.

        Raises:
            DataError: the file cannot be written.
        """
        with storage_errors(f"{self.url}/{name}"):
            if self.is_local:
                with atomic_path(f"{self.path}/{name}") as temporary:
                    temporary.write_bytes(content)
            else:  # an object appears in object storage when it is complete
                self.fs.pipe_file(f"{self.path}/{name}", content)

    def remove_temporaries(self, folder: str) -> None:
        """Delete the incomplete files of a killed process from a subfolder."""
        for name in self.names(folder) if self.is_local else ():
            if name.startswith(".") and name.endswith(".tmp"):
                with storage_errors(self.url):
                    self.fs.rm_file(f"{self.path}/{folder}/{name}")
