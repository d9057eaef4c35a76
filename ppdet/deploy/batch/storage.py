"""Folders for results on disks and in object storage, and which storage a list may name."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ppdet.utils.disk.files import atomic_path
from ppdet.utils.disk.lock import locked
from ppdet.utils.disk.object_storage import (
    absolute,
    is_local,
    open_file,
    open_storage,
    read_file,
    shortened,
    storage_errors,
)
from ppdet.utils.errors import DataError

# A list of images may come from a stranger. URLs of these kinds name files of this machine and objects in storage that
# has one address for all users; one with a host, such as http://, would let the list choose where workers connect to.
LIST_SCHEMES = ("file", "local", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "hf")


def require_scheme(url: str, schemes: Collection[str]) -> None:
    """Raise DataError unless the scheme of a URL in a list is one of LIST_SCHEMES or `schemes`."""
    scheme = url.partition("://")[0]
    if "::" in url:  # fsspec would read it as one storage within another, each with its own scheme
        raise DataError(f"a URL with :: is not read from a list: {shortened(url, 200)}")
    if scheme not in LIST_SCHEMES and scheme not in schemes:
        raise DataError(f"{shortened(scheme, 50)}:// is not read from a list unless --url_schemes names it")


class Folder:
    """A folder for results, on a disk or in object storage. A file in it is complete or absent."""

    def __init__(self, url: str) -> None:
        self.url = absolute(url)
        self.fs, self.path = open_storage(self.url)
        self.is_local = is_local(self.fs)

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

    def _require_own(self, folder: str) -> None:
        """Raise DataError if a subfolder is a link, which could lead out of the folder."""
        if folder not in ("", ".") and self.is_local and os.path.islink(f"{self.path}/{folder}"):
            raise DataError(f"{self.url}/{folder} is a link; a job writes to folders of its own: remove it")

    def names(self, folder: str) -> set[str]:
        """Names of the files in a subfolder; an empty set if the subfolder does not exist.

        Raises:
            DataError: the subfolder cannot be listed, or is a link, which could lead out of the folder.
        """
        with storage_errors(self.url):
            self._require_own(folder)
            self.fs.invalidate_cache()
            try:
                return {PurePosixPath(path).name for path in self.fs.ls(f"{self.path}/{folder}", detail=False)}
            except FileNotFoundError:
                return set()

    def open(self, name: str) -> Any:
        """Open a file for reading bytes."""
        with storage_errors(f"{self.url}/{name}"):
            return open_file(self.fs, f"{self.path}/{name}")

    def read(self, name: str, largest: int) -> bytes:
        """The bytes of a file of at most `largest` bytes. Raises DataError if it cannot be read, or is larger."""
        with storage_errors(f"{self.url}/{name}"):
            return read_file(self.fs, f"{self.path}/{name}", largest)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing one of that name.

        Raises:
            DataError: the file cannot be written.
        """
        with storage_errors(f"{self.url}/{name}"):
            if self.is_local:
                self._require_own(str(PurePosixPath(name).parent))
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
