"""The folder in which results are kept that take long to compute and can be computed again at any time."""

import contextlib
import math
import os
from pathlib import Path

CACHE_HOME = "~/.cache/ppdet"


def cache_place(name: str) -> Path:
    """Return the subfolder `name` of PPDET_CACHE_HOME, an environment variable, or of ~/.cache/ppdet."""
    return Path(os.path.expanduser(os.environ.get("PPDET_CACHE_HOME") or CACHE_HOME)) / name


def cache_folder(name: str) -> Path | None:
    """Return `cache_place(name)`, which is created if it does not exist.

    None if it cannot be written: the caller then computes everything anew.
    """
    folder = cache_place(name)
    with contextlib.suppress(OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK | os.X_OK) else None
    return None


def mark_used(path: Path) -> None:
    """Let `remove_oldest` know that a file was used now. Nothing happens if it is another user's."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove_oldest(folder: Path, *, count: float = math.inf, size: float = math.inf) -> None:
    """Remove the files of a folder that were not used for the longest time, until few enough are left.

    Locks stay, and so do files that cannot be removed. Other processes may work in the folder at the same time.

    Args:
        count: number of files that may be left. size: bytes that these may have together.
    """
    found = []
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    files = sorted(file for file in found if file[2].suffix != ".lock")
    left, total = len(files), sum(file[1] for file in files)
    for _, its_size, path in files:
        if left <= count and total <= size:
            return
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        left, total = left - 1, total - its_size
