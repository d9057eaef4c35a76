"""Folders whose files appear together: all of them are complete, or none is there."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ppdet.utils.disk.files import copy_file


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write to, whose files get their names in `target` when the block succeeds.

    If `target` is not there, it appears with all files at once. Otherwise they are moved into it, where they replace
    files of the same names; those in `annotations` come last, since they name the others. If the block fails, what it
    wrote is removed and `target` is as before. An OSError names a file in `target`, not the temporary one.

    Raises:
        OSError: something cannot be written.
    """
    exists = target.exists()
    # In an existing folder, which may be a disk of its own, since files are copied between disks.
    new = (target / f".{os.getpid()}.tmp") if exists else target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        new.mkdir(parents=True)
        yield new
        if exists:
            move_files(new, target)
        else:
            new.rename(target)
    except OSError as error:
        if error.errno is None:
            raise
        # Nobody knows the temporary name.
        name = str(error.filename).replace(str(new), str(target)) if error.filename is not None else str(target)
        raise OSError(error.errno, error.strerror, name) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def move_files(source: Path, target: Path) -> None:
    """Move all files below a folder to the same places below another one, a part of which may be on another disk.

    Each file first goes to the folder of its place, under a temporary name, as a copy if that folder is on another disk
    than `source`, such as a linked `images`. Nothing is replaced before all of them have arrived.

    Raises:
        OSError: a file cannot be moved; it names the place in `target`, where all files are as before.
    """
    names = [path.relative_to(source) for path in source.rglob("*") if not path.is_dir()]
    arrived: dict[Path, Path] = {}  # by place
    try:
        for number, name in enumerate(sorted(names, key=lambda path: (path.parts[0] == "annotations", path))):
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            arrived[place] = place.with_name(f".{os.getpid()}-{number}.tmp")
            try:
                move_file(source / name, arrived[place])
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(place)) from None
        for place, near in arrived.items():
            os.replace(near, place)
    finally:
        for near in arrived.values():
            near.unlink(missing_ok=True)


def move_file(source: Path, target: Path) -> None:
    """Rename a file, or copy its content if `target` is on another disk."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(source, target)
