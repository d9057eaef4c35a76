"""Tests in forks of a process that has the large packages: a mutant costs its tests, not the start of Paddle."""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import coverage
import pytest

LARGE = ("cv2", "hypothesis.strategies", "numpy", "pandas", "pyarrow.parquet", "pycocotools.coco", "scipy", "yaml")
QUIET = ("-q", "-x", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=")
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"


def prepare(tree: Path) -> None:
    """Import what all tests import, but nothing that is mutated. Files of bytecode would outlive a mutant."""
    sys.dont_write_bytecode = True
    os.environ.update(OMP_NUM_THREADS="1", PPDET_SHARED=os.devnull, PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(tree))
    os.chdir(tree)
    sys.path[:0] = [str(tree), str(tree / "tests")]
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle()
    for name in LARGE:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for name in [name for name in sys.modules if name.split(".")[0] == "ppdet"]:
        del sys.modules[name]


def fork(work: Callable[[], int], limit: float, log: Path) -> int:
    """Exit code of `work` in a child, negative for a signal. After `limit` seconds it and its children are killed."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + limit
    try:
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                _, status = os.waitpid(child, 0)
                break
            time.sleep(0.02)
    finally:  # when this program is stopped too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what a test left running
    return os.waitstatus_to_exitcode(status)


def judge(tests: Sequence[str], limit: float, log: Path) -> str:
    """What becomes of the mutant that is in the tree."""
    start = time.monotonic()
    code = fork(lambda: int(pytest.main([*QUIET, *tests])), limit, log)
    if code == pytest.ExitCode.OK:
        return SURVIVED
    if code == pytest.ExitCode.USAGE_ERROR and "not found" in log.read_text(errors="replace"):
        raise SystemExit(f"error: tests are gone, delete the folder of {log} and start anew: {log.read_text()[-500:]}")
    return TIMEOUT if code == -signal.SIGKILL and time.monotonic() - start >= limit else KILLED


class Recorder:
    """A plugin of pytest that notes which test runs which line, and for how long it runs.

    What a fixture of several tests runs belongs to all tests of the file.
    """

    def __init__(self, recording: coverage.Coverage) -> None:
        self.recording = recording
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        self.recording.switch_context(item.nodeid)
        start = time.monotonic()
        result = yield
        self.seconds[item.nodeid] = time.monotonic() - start
        self.recording.switch_context("")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: object, request: pytest.FixtureRequest) -> object:
        item = request._pyfuncitem
        if fixturedef.scope != "function":
            self.recording.switch_context(item.nodeid.split("::")[0])
        try:
            return (yield)
        finally:
            self.recording.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)


def record(tests: Sequence[str], sources: Sequence[str], target: Path) -> int:
    """Run all tests of a room; write {seconds: of each, lines: {file: {line: tests}}} as JSON."""
    recording = coverage.Coverage(data_file=None, include=list(sources), config_file=False)
    recorder = Recorder(recording)
    recording.start()
    recording.switch_context("")
    code = pytest.main(["--tb=short", *(option for option in QUIET if option not in ("-x", "--tb=line")), *tests],
                       plugins=[recorder])  # fmt: skip
    recording.stop()
    if code:
        return int(code)
    data, lines = recording.get_data(), {}
    for file in data.measured_files():
        contexts = data.contexts_by_lineno(file)
        lines[os.path.relpath(file)] = {line: sorted(set(names) - {""}) for line, names in contexts.items()}
    target.write_text(json.dumps({"seconds": recorder.seconds, "lines": lines}))
    return 0
