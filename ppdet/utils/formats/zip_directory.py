"""Opening zip archives from outside, whose list of members has a limit."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

# Bytes of the list for about 100,000 members with names of ordinary lengths. Python keeps several times as much of it.
LARGEST_DIRECTORY = 8 * 2**20


class LargeDirectoryError(zipfile.BadZipFile):
    """The list of members at the end of an archive is too large."""


class _DirectoryReader(io.BufferedReader):
    """Reads an archive for `zipfile.ZipFile`, whose constructor reads the whole list of members at once.

    Attributes:
        largest: bytes above which a single read is refused; None: any number.
    """

    largest: int | None = None

    def read(self, size: int | None = -1) -> bytes:
        if self.largest is not None and (size or 0) > self.largest:
            raise LargeDirectoryError(f"its list of members has more than {self.largest:,} bytes")
        return super().read(size)


@contextmanager
def opened_zip(stream: BinaryIO, largest: int = LARGEST_DIRECTORY) -> Iterator[zipfile.ZipFile]:
    """Open an archive to read it; closing it closes `stream`.

    Args:
        largest: bytes that its list of members may have.

    Raises:
        LargeDirectoryError: the list is larger. BadZipFile: it is no archive.
    """
    with _DirectoryReader(cast(io.RawIOBase, stream)) as reader:
        reader.largest = largest
        with zipfile.ZipFile(reader) as archive:
            reader.largest = None
            yield archive
