"""A function called in a process of its own: its answer, or how the process ended, and that it ends with its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from paddle_error import PADDLES_ERROR
from patience import wait_until
from processes import wait_for_end

from ppdet.utils.process.child import ChildError, call_in_child, last_words
from ppdet.utils.process.stop import signal_name

ROOT = Path(__file__).resolve().parents[3]
RUN = """
def run(code):
    names = {}
    exec(code, names)
    return names.get("answer")
"""
CALL = """
import sys
from child_of_a_test import run
from ppdet.utils.process.child import call_in_child
call_in_child(run, {"code": sys.argv[1]})
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function of a module that the other process finds too; it runs code and returns what that calls `answer`."""
    (tmp_path / "child_of_a_test.py").write_text(RUN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import child_of_a_test

    yield child_of_a_test.run
    del sys.modules["child_of_a_test"]


def test_the_answer_comes_whatever_the_library_does_besides(run, tmp_path, monkeypatch):
    """It prints, leaves a process behind that holds the output open, and crashes at the end of the process."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "json.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path / "elsewhere")
    code = """
import atexit, os, subprocess, sys
print("a line")
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
atexit.register(os.abort)
answer = {"ä": [1, None], "pid": os.getpid(), "left": left.pid, "variable": os.environ["ONLY_THERE"]}
"""
    answer = call_in_child(run, {"code": code}, environment={**os.environ, "ONLY_THERE": "yes"})
    os.kill(answer.pop("left"), signal.SIGKILL)
    assert answer.pop("pid") != os.getpid()
    assert answer == {"ä": [1, None], "variable": "yes"}


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("raise ValueError('no such graph')", "ended with exit code 1: ValueError: no such graph"),
        ("import os; print('the driver is gone', flush=True); os.abort()", "was ended by SIGABRT: the driver is gone"),
        ("import os; os._exit(0)", "ended with exit code 0"),
        ("print('x' * 10**6); raise SystemExit(5)", "ended with exit code 5: xxx"),
    ],
)
def test_how_a_process_ends_without_an_answer(run, code, how):
    with pytest.raises(ChildError) as raised:
        call_in_child(run, {"code": code})
    assert str(raised.value).startswith(how) and len(raised.value.output) <= 2**18


def test_a_process_that_takes_too_long_is_killed(run):
    with pytest.raises(ChildError, match=r"^took longer than 0\.5 s$"):
        call_in_child(run, {"code": "import time; time.sleep(600)"}, seconds=0.5)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_it_ends_with_the_process_that_asked(run, tmp_path):
    """Otherwise others would wait for the lock or the device that it holds."""
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(600)"
    asking = subprocess.Popen([sys.executable, "-c", CALL, code], cwd=ROOT)
    wait_until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith("."))
    asking.kill()
    asking.wait()
    wait_for_end([int((tmp_path / "pid").read_text()[:-1])])


def test_last_words():
    assert last_words(" \n---\n", 3) == "ended with exit code 3"
    assert last_words("one\nother\n\n", -1) == "was ended by SIGHUP: other"
    assert last_words(PADDLES_ERROR * 2, 0).startswith("ended with exit code 0: ResourceExhaustedError: Out of")


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="this system has no real-time signals")
def test_real_time_signals_have_names_too():
    """As the shell's `kill -l` calls them; Python names only the first and the last one."""
    assert [signal_name(signal.SIGRTMIN + more) for more in (0, 1)] == ["SIGRTMIN", "SIGRTMIN+1"]
    assert last_words("", -signal.SIGRTMIN - 1) == "was ended by SIGRTMIN+1"
