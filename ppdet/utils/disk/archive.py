"""Unpacking archives that were downloaded, without writing outside of the folder."""

import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from ppdet.utils.disk.files import atomic_path, open_regular
from ppdet.utils.errors import UserError
from ppdet.utils.formats.zip_directory import opened_zip
from ppdet.utils.printable import printable, quoted

# An archive may hold MOST_TIMES its own size, and SPARE_BYTES more. Photos hold about as much, JSON ten times as much.
MOST_TIMES = 100
SPARE_BYTES = 2**30
MOST_MEMBERS = 2_000_000
LARGEST_DIRECTORY = 128 * 2**20  # bytes of the list of a zip archive's members
LONGEST_HEADER = 2**20  # bytes of a long name in a tar archive


class ArchiveError(UserError, ValueError):
    """An archive that is damaged, or that would write outside of its folder."""


class Member(NamedTuple):
    """A plain file in an archive: its name there, its size in bytes, and a function that opens it."""

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: str | Path, folder: str | Path) -> int:
    """Unpack a zip or tar archive (also a compressed one) into `folder`, and return the number of files written.

    Only plain files are written, no links and no devices. Files that exist with the same size are skipped, so that a
    call after an interruption continues.

    Raises:
        ArchiveError: it is not an archive, or damaged; the path of a member leads outside of `folder`, or the members
            are many times as large as the archive: then nothing is written.
    """
    archive, folder = Path(archive), Path(folder)
    with open_regular(archive):
        pass  # a pipe would wait for ever
    try:
        if zipfile.is_zipfile(archive):
            with opened_zip(open_regular(archive), LARGEST_DIRECTORY) as zip_file:
                return _write(archive, _bounded(archive, _zip_members(zip_file)), folder)
        with _open_tar(archive) as tar_file:
            return _write(archive, _bounded(archive, _tar_members(tar_file)), folder)
    except UserError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise _damaged(archive, error) from None
    except Exception as error:  # readers of archives raise anything at damage; an encrypted one is a RuntimeError
        raise _damaged(archive, error) from None


def _open_tar(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, tarinfo=_BoundedTarInfo)
    except tarfile.TarError:
        message = f"{archive}: expected a zip or tar archive; if it should be one, download it again"
        raise ArchiveError(message) from None


def _damaged(archive: Path, error: BaseException) -> ArchiveError:
    return ArchiveError(f"{archive}: damaged ({error!s:.200}): delete it and download it again")


class _BoundedTarInfo(tarfile.TarInfo):
    """A member of a tar archive. Its long name is read into memory at once, so it has a limit."""

    def _proc_member(self, opened: tarfile.TarFile) -> Any:
        if not (self.isreg() or self.isdir() or self.issym() or self.islnk()) and self.size > LONGEST_HEADER:
            raise tarfile.ReadError("a name that is too long")
        return super()._proc_member(opened)  # type: ignore[misc]


def _bounded(archive: Path, members: Iterator["Member"]) -> list["Member"]:
    """List the members as long as they may be together; ArchiveError if they are larger, or too many."""
    left, listed = MOST_TIMES * archive.stat().st_size + SPARE_BYTES, []
    for member in members:
        listed.append(member)
        left -= member.size
        if left < 0 or len(listed) > MOST_MEMBERS:
            raise ArchiveError(f"{archive}: its files are many times as large as the archive; nothing was unpacked")
    return listed


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if not info.is_dir() and not is_link:
            yield Member(info.filename, info.file_size, partial(opened.open, info))


def _tar_members(opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if info.isfile():
            yield Member(info.name, info.size, partial(opened.extractfile, info))


def _write(archive: Path, members: list[Member], folder: Path) -> int:
    for member in members:
        path, shown = PurePosixPath(member.name.replace("\\", "/")), f"member {quoted(member.name, 200)}"
        if path.is_absolute() or ".." in path.parts or PureWindowsPath(member.name).drive:
            raise ArchiveError(f"{archive}: {shown} leads outside of the folder; nothing was unpacked")
        if not path.parts or "\0" in member.name:
            raise ArchiveError(f"{archive}: {shown} has no file name; nothing was unpacked")
    written = 0
    for member in tqdm(members, desc=printable(archive.name), disable=not sys.stderr.isatty()):
        target = folder / member.name.replace("\\", "/")
        if target.is_file() and target.stat().st_size == member.size:
            continue
        source = member.open()
        assert source is not None, "tarfile opens plain files"
        with atomic_path(target) as temporary, source, open(temporary, "wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
        written += 1
    return written
