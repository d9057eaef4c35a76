"""The folder in which results are kept that take long to compute and can be computed again at any time."""

import contextlib
import os
from pathlib import Path

CACHE_HOME = "~/.cache/ppdet"


def cache_folder(name: str) -> Path | None:
    """Return the subfolder `name` of PPDET_CACHE_HOME, an environment variable, or of ~/.cache/ppdet.

    It is created if it does not exist. None if it cannot be written: the caller then computes everything anew.
    """
    folder = Path(os.path.expanduser(os.environ.get("PPDET_CACHE_HOME") or CACHE_HOME)) / name
    with contextlib.suppress(OSError, ValueError):
        folder.mkdir(parents=True, exist_ok=True)
        return folder if os.access(folder, os.W_OK | os.X_OK) else None
    return None


def remove_oldest(folder: Path, pattern: str, kept: int) -> None:
    """Remove the files of a cache that match a glob pattern, but for the `kept` ones that were used last."""
    with contextlib.suppress(OSError):  # another process may remove the same ones
        files = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[kept:]:
            path.unlink(missing_ok=True)
