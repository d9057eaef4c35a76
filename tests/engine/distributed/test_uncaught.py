"""C++ exceptions that are not caught."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TERMINATE = """
import ctypes, os, sys
from ppdet.engine.distributed.uncaught import before_terminate

try:
    library = ctypes.CDLL("libstdc++.so.6")
except OSError:
    sys.exit(77)
terminate = library._ZSt9terminatev  # what C++ calls

def act():
    print("told", flush=True)
    {act}

with before_terminate(act):
    {before}
    terminate()
"""


@pytest.mark.parametrize(
    ("before", "act", "code", "told"),
    [
        ("pass", "os._exit(2)", 2, "told\n"),
        ("pass", "pass", -signal.SIGABRT, "told\n"),
        ("pass", "raise ValueError('act has an error of its own')", -signal.SIGABRT, "told\n"),
        ("os.fork() and os._exit(abs(os.waitstatus_to_exitcode(os.wait()[1])))", "pass", signal.SIGABRT, ""),
    ],
    ids=["ends", "returns", "fails", "a data worker"],
)
def test_this_process_is_asked_before_it_is_ended(before, act, code, told):
    script = TERMINATE.format(before=before, act=act)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 77:
        pytest.skip("another C++ library")
    assert (result.returncode, result.stdout) == (code, told), result.stderr


def test_afterwards_it_is_not():
    script = TERMINATE.format(before="pass", act="os._exit(2)").replace("    terminate()", "    pass\nterminate()")
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    if result.returncode == 77:
        pytest.skip("another C++ library")
    assert (result.returncode, result.stdout) == (-signal.SIGABRT, ""), result.stderr
