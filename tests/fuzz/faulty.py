"""Readers that do what the harness must notice; the tests of the harness run them."""

import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.case import Case, Kind
from fuzz.draw import Draw
from ppdet.utils.errors import DataError


def _raises(case: Case) -> None:
    raise KeyError("width")


def _loops(case: Case) -> None:
    while True:
        pass


def _sleeps(case: Case) -> None:
    time.sleep(3600)


def _eats(case: Case) -> None:
    bytearray(64 * 2**20)[::4096] = b"x" * (64 * 2**20 // 4096)


def _gets_no_memory(case: Case) -> None:
    bytearray(2**40)


def _hides_memory(case: Case) -> None:
    raise DataError("file.txt: not complete (MemoryError)")


def _writes(case: Case) -> None:
    Path("../outside").write_text("x")


def _runs(case: Case) -> None:
    exec("import pathlib; pathlib.Path('canary').touch()")


def _starts(case: Case) -> None:
    os.system("true")


def _connects(case: Case) -> None:
    socket.create_connection(("127.0.0.1", 9), 1).close()


def _warns(case: Case) -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def _colors(case: Case) -> None:
    print("a name: \x1b[31mred")


def _colors_past_python(case: Case) -> None:
    os.write(2, b"a tag: \x1b[31mred\n")


def _hides_memory_past_python(case: Case) -> None:
    os.write(2, b"imdecode: Failed to allocate 3221225472 bytes in function 'OutOfMemoryError'\n")


def _ends(case: Case) -> None:
    os._exit(3)


def _crashes(case: Case) -> None:
    os.abort()


def _names_nothing(case: Case) -> None:
    raise DataError("something is wrong")


def _exits(case: Case) -> None:
    sys.exit(1)


def _refuses(case: Case) -> None:
    raise DataError("file.txt: too long")


def _accepts(case: Case) -> str:
    return Path("file.txt").read_text()


SUBJECTS: dict[str, Callable[[Case], Any]] = {
    name.strip("_"): value
    for name, value in list(globals().items())
    if name.startswith("_") and not name.startswith("__")
}


def build(draw: Draw) -> Case:
    """The subjects one after the other: number 0 is the first."""
    return Case(list(SUBJECTS)[draw.number_of_case], {"file.txt": b"text"}, {}, "a faulty reader")


KINDS = {"faulty": Kind(build, SUBJECTS, memory=32 * 2**20)}
