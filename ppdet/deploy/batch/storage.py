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
    """Turn what a storage service raises into one line that names the place."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # every service's library has classes of its own
        message = " ".join(str(error).split()) or type(error).__name__
        raise DataError(message if url in message else f"{url}: {message}") from None


def is_url(path: str) -> bool:
    return "://" in path


def absolute(path: str) -> str:
    """A URL as it is; a local path from the root of the file system."""
    return path.rstrip("/") if is_url(path) else os.path.abspath(os.path.expanduser(path))


def locate(root: str, name: str) -> str:
    """Where a file is that is called `name` in the folder `root`; a name that is absolute, or a URL, stays."""
    if is_url(name) or os.path.isabs(name):
        return name
    return f"{root.rstrip('/')}/{name}"


def open_storage(url: str) -> tuple[Any, str]:
    """fsspec's file system of a path or URL, and the path in it.

    Raises:
        DataError: there is no such kind of storage, or the package for it is missing.
    """
    from fsspec.core import url_to_fs

    with storage_errors(url):
        return url_to_fs(url)


class Folder:
    """A folder for results. Files in it are whole or absent, whatever happens while they are written."""

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self.fs, self.path = open_storage(self.url)
        self.is_local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other process has the folder; object storage has no such thing.

        Raises:
            LockedError: another one has it.
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
            if is_new:  # and perhaps nothing was to be done
                with suppress(OSError):
                    path.rmdir()

    def names(self, folder: str) -> set[str]:
        """Names of the files in a folder below; none where it does not exist yet."""
        with storage_errors(self.url):
            self.fs.invalidate_cache()
            try:
                return {PurePosixPath(path).name for path in self.fs.ls(f"{self.path}/{folder}", detail=False)}
            except FileNotFoundError:
                return set()

    def open(self, name: str) -> Any:
        """The file, for reading bytes."""
        with storage_errors(f"{self.url}/{name}"):
            return self.fs.open(f"{self.path}/{name}", "rb")

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, instead of one of that name that may be there.

        Raises:
            DataError: that is not possible.
        """
        if self.is_local:
            try:
                with atomic_path(f"{self.path}/{name}") as temporary:
                    temporary.write_bytes(content)
            except OSError as error:  # a full disk's says of no file
                raise DataError(f"{self.path}/{name} cannot be written: {error.strerror}") from None
            return
        # Object storage shows an object when it is complete.
        with storage_errors(f"{self.url}/{name}"):
            self.fs.pipe_file(f"{self.path}/{name}", content)

    def remove_temporaries(self, folder: str) -> None:
        """Delete what a killed process had not finished writing."""
        for name in self.names(folder) if self.is_local else ():
            if name.startswith(".") and name.endswith(".tmp"):
                with storage_errors(self.url):
                    self.fs.rm_file(f"{self.path}/{folder}/{name}")
