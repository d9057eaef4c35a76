"""Keeping the result of the check of oneDNN's operations, so that a machine computes it once and not in every run."""

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppdet.modeling.cpu import onednn
from ppdet.utils.disk.cache import cache_folder, cache_place, mark_used, remove_oldest
from ppdet.utils.disk.files import read_own, write_json
from ppdet.utils.process.cpu import processor_description

VERSION = 1  # of what is kept; another one is not read
NAME = "cpu_layers"  # of the folder in the cache
KEPT = 16  # results
LARGEST = 1000  # bytes of a file with one
# Environment variables with which oneDNN, MKL, OpenMP or Paddle compute in another way.
PREFIXES = ("ONEDNN_", "DNNL_", "MKL_", "OMP_", "KMP_", "FLAGS_")


def kept_difference(dtype: str, compute: Callable[[str], float], tolerance: float) -> float:
    """Return compute(dtype), or what it returned on this machine before, if that was at most `tolerance`.

    A result belongs to the processor, its microcode and the system; to Paddle, oneDNN and NumPy; to the environment
    variables and the code that oneDNN is called with. Where one of these is another, where the cache cannot be read or
    written, or where the file in it is damaged, it is computed.
    """
    folder = cache_folder(NAME)
    identity = _identity(dtype) if folder else None
    if folder is None or identity is None:
        return compute(dtype)
    target = folder / f"{identity}.json"
    known = _read(target)
    if known is not None and known <= tolerance:
        return known
    found = compute(dtype)
    if found <= tolerance:  # a failure is told in every run
        with contextlib.suppress(OSError):
            write_json(target, {"difference": found})
            remove_oldest(folder, count=KEPT)
    return found


def forget() -> None:
    """Remove all results, so that the next ones are computed."""
    for path in cache_place(NAME).glob("*.json"):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _identity(dtype: str) -> str | None:
    """A name for everything that the result depends on; None where a part of that is not known.

    Raises:
        OSError, OneDNNError: oneDNN cannot be loaded.
    """
    processor = processor_description()
    if processor is None:
        return None
    values: list[Any] = [VERSION, dtype, processor, platform.system(), platform.release(), platform.version()]
    values += [platform.python_version(), np.__version__, paddle.__version__, onednn.library().version]
    values += sorted((name, value) for name, value in os.environ.items() if name.startswith(PREFIXES))
    base, sources = Path(paddle.__file__).parent, hashlib.sha256()
    try:
        for path in [*sorted((base / "libs").glob("*")), *sorted((base / "base").glob("libpaddle*"))]:
            status = path.stat()
            values.append((str(path), status.st_size, status.st_mtime_ns))
        for path in sorted(Path(__file__).parent.glob("*.py")):
            sources.update(path.read_bytes())
    except OSError:
        return None
    return hashlib.sha256(repr([*values, sources.hexdigest()]).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _read(target: Path) -> float | None:
    """The difference that was kept; None if there is none, or the file is damaged."""
    try:
        content = json.loads(read_own(target, LARGEST))
        value = content["difference"]
        is_difference = isinstance(value, float) and math.isfinite(value) and value >= 0
        mark_used(target)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if is_difference else None
