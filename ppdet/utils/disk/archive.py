"""Unpacking of archives that come from elsewhere."""

import gzip
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from tqdm import tqdm

from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import UserError

# name in the archive, size in bytes, how to open it
Member = tuple[str, int, Callable[[], BinaryIO]]


class ArchiveError(UserError, ValueError):
    """An archive that is damaged or wants to write outside of its folder; the message is one line."""


def unpack(archive: str | Path, folder: str | Path) -> int:
    """Unpack a zip or tar archive (also compressed) into `folder`; return the number of files written.

    Only plain files are written: no links, no devices. Files that are there with the same size are left, so a
    call after an interruption goes on where it stopped.

    Raises:
        ArchiveError: not an archive, damaged, or a member's path leads outside of `folder` (then nothing of
            the archive is written).
    """
    archive, folder = Path(archive), Path(folder)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return _write(archive, list(_zip_members(opened)), folder)
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as opened:
                return _write(archive, list(_tar_members(opened)), folder)
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveError(f"{archive}: damaged ({error}): delete it and download it again") from None
    raise ArchiveError(f"{archive}: expected a zip or tar archive; if it should be one, download it again")


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        is_link = (info.external_attr >> 16) & 0o170000 == 0o120000
        if not info.is_dir() and not is_link:
            yield info.filename, info.file_size, lambda info=info: opened.open(info)


def _tar_members(opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if info.isfile():
            yield info.name, info.size, lambda info=info: opened.extractfile(info)


def _write(archive: Path, members: list[Member], folder: Path) -> int:
    for name, _, _ in members:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
            raise ArchiveError(f"{archive}: member {name!r} leads outside of the folder; nothing was unpacked")
    written = 0
    for name, size, open_member in tqdm(members, desc=archive.name, disable=not sys.stderr.isatty()):
        target = folder / name.replace("\\", "/")
        if target.is_file() and target.stat().st_size == size:
            continue
        with atomic_path(target) as temporary, open_member() as source, open(temporary, "wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
        written += 1
    return written
