"""Folders and files on disks and in object storage, through fsspec."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ppdet.utils.disk.files import atomic_path, open_regular, read_regular
from ppdet.utils.disk.lock import locked
from ppdet.utils.errors import DataError, UserError

# A list of images may come from a stranger. URLs of these kinds name files of this machine and objects in storage that
# has one address for all users; one with a host, such as http://, would let the list choose where workers connect to.
LIST_SCHEMES = ("file", "local", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "hf")


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
        message = getattr(error, "strerror", None) or shortened(" ".join(str(error).split())) or type(error).__name__
        raise DataError(message if url in message else f"{url}: {message}") from None


def shortened(text: str, longest: int = 1000) -> str:
    """The text, without its end if it is longer than `longest` characters."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def is_url(path: str) -> bool:
    return "://" in path


def require_scheme(url: str, schemes: Collection[str]) -> None:
    """Raise DataError unless the scheme of a URL in a list is one of LIST_SCHEMES or `schemes`."""
    scheme = url.partition("://")[0]
    if "::" in url:  # fsspec would read it as one storage within another, each with its own scheme
        raise DataError(f"a URL with :: is not read from a list: {shortened(url, 200)}")
    if scheme not in LIST_SCHEMES and scheme not in schemes:
        raise DataError(f"{shortened(scheme, 50)}:// is not read from a list unless --url_schemes names it")


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
