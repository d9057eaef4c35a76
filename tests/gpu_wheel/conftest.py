"""These tests inspect a build of Paddle for GPUs; `make gpu-wheel` makes an environment with one."""

import collections
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent)]
HERE = Path(__file__).parent
WHEEL = "2.6.2"
PROCESSES = 2
lines: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import paddle

    if paddle.is_compiled_with_cuda() and paddle.__version__ == WHEEL:
        return
    skip = pytest.mark.skip(reason=f"needs paddlepaddle-gpu {WHEEL}: make gpu-wheel")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in lines:
        terminalreporter.write_line(line)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands its lines to the one that prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = lines


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    lines.extend(getattr(node, "workeroutput", {}).get("lines", []))


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """Kernels of all cases, by section."""
    from cases import cases
    from recording import compile_recorder, record

    folder = tmp_path_factory.mktemp("recording")
    library = compile_recorder(folder)
    found = list(cases().items())
    shares = [dict(found[part::PROCESSES]) for part in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        records = pool.map(lambda part: record(library, folder / str(part), shares[part]), range(PROCESSES))
    merged: dict[str, collections.Counter] = {}
    for part in records:
        merged.update(part)
    return merged


@pytest.fixture(scope="session")
def summary():
    """Lines to print at the end."""
    return lines
