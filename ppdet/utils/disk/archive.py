"""Unpacking archives that were downloaded, without writing outside of the folder."""

import gzip
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from tqdm import tqdm

from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import UserError
from ppdet.utils.printable import printable


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
        ArchiveError: it is not an archive, or damaged, or the path of a member leads outside of `folder`; then nothing
            is written.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zip_file:
                return _write(archive, list(_zip_members(zip_file)), folder)
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar_file:
                return _write(archive, list(_tar_members(tar_file)), folder)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveError(f"{archive}: damaged ({error}): delete it and download it again") from None
    raise ArchiveError(f"{archive}: expected a zip or tar archive; if it should be one, download it again")


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
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or PureWindowsPath(member.name).drive:
            raise ArchiveError(f"{archive}: member {member.name!r} leads outside of the folder; nothing was unpacked")
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
