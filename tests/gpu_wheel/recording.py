"""Which kernels Paddle selects in real runs, and of which type (recorder.cc)."""

import collections
import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TYPES = {1: "bool", 2: "uint8", 3: "int8", 5: "int16", 7: "int32", 9: "int64", 10: "float32", 11: "float64"}
TYPES.update({15: "float16", 16: "bfloat16"})


class Kernel(NamedTuple):
    """A kernel as Paddle selects it. views: its result may be a view of its input."""

    name: str
    dtype: str
    views: bool


Recording = dict[str, collections.Counter]  # calls of each Kernel, by section


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Kernels that are selected within, in whatever thread, are of this section."""
    recorder = ctypes.CDLL(None)
    recorder.recorder_section(name.encode())
    try:
        yield
    finally:
        recorder.recorder_section(b"")


def save(path: Path) -> None:
    """Write down what was recorded."""
    ctypes.CDLL(None).recorder_save(str(path).encode())


def compile_recorder(folder: Path) -> Path:
    """The recorder as a library."""
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler, "g++ is needed to record which kernels Paddle selects: install it (apt install g++)"
    library = folder / "recorder.so"
    source = Path(__file__).with_name("recorder.cc")
    subprocess.run([compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def record(library: Path, folder: Path, cases: dict[str, tuple[str, list[str]]]) -> Recording:
    """Record some cases with record.py; a case is a configuration and options, by name."""
    folder.mkdir()
    names = [os.environ.get("PYTHONPATH"), str(ROOT)]
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(filter(None, names))}
    script = Path(__file__).with_name("record.py")
    command = [sys.executable, str(script), str(folder), json.dumps(cases)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    return read(folder / "kernels.tsv")


def read(path: Path) -> Recording:
    """What `save` wrote."""
    recording: Recording = collections.defaultdict(collections.Counter)
    for line in path.read_text().splitlines():
        name, kernel, dtype, views, calls = line.split("\t")
        recording[name][Kernel(kernel, TYPES.get(int(dtype), dtype), views == "1")] += int(calls)
    return recording
