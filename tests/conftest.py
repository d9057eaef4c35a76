"""Fixtures that all tests share."""

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

warnings.filterwarnings("ignore", message="No ccache found")
from pretend import Pretend, build  # noqa: E402
from tiny import TINY_YAML, write_tiny_coco, write_tiny_semi  # noqa: E402

from ppdet.utils.process.cpu import cpu_count  # noqa: E402
from ppdet.utils.process.paddle_setup import load_paddle  # noqa: E402

# Processes of pytest-xdist share the processors. They inherit what their parent has set for itself alone.
processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if processes > 1:
    inherited = int(os.environ.get("OMP_NUM_THREADS", cpu_count()))
    os.environ["OMP_NUM_THREADS"] = str(min(inherited, max(1, cpu_count() // processes)))
load_paddle()


# Options of Chromium.
BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are processors: some tests wait for servers and for processes of their own."""
    return cpu_count() + 1


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference numbers and real data; tests that need it are skipped if it is missing."""
    folder = Path(os.environ.get("PPDET_SHARED", ROOT.parent / "shared"))
    if not (folder / "goldens").is_dir():
        pytest.skip(f"{folder} with goldens and data is not here (PPDET_SHARED says where else)")
    return folder


@pytest.fixture(scope="session")
def pretend(tmp_path_factory: pytest.TempPathFactory) -> Pretend:
    """Starts processes whose Paddle has a device that is not the CPU."""
    return build(tmp_path_factory.mktemp("pretend"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; a test of a page closes the contexts that it opens."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium here (chromium, chromium-browser or google-chrome on PATH)")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=path, args=BROWSER)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def no_extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test knows nothing of the files that others import into the same process."""
    from ppdet.core import extensions

    monkeypatch.setattr(extensions, "_imported", {})


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """What the code of a test sets in the environment, such as OMP_NUM_THREADS, does not reach the next test."""
    before = dict(os.environ)
    yield
    for name in (os.environ.keys() | before.keys()) - {"PYTEST_CURRENT_TEST"}:
        if name not in before:
            del os.environ[name]
        elif os.environ.get(name) != before[name]:
            os.environ[name] = before[name]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """caplog of the project's loggers, which do not pass their records on."""
    logger = logging.getLogger("ppdet")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Path of a configuration that trains a tiny FCOS on a tiny data set; output goes to tmp_path/output."""
    data = write_tiny_coco(tmp_path / "data")
    path = tmp_path / "tiny.yml"
    path.write_text(TINY_YAML.format(output=tmp_path / "output", data=data))
    return path


@pytest.fixture
def tiny_semi(tmp_path: Path) -> Path:
    """Path of a configuration that trains a tiny FCOS on 8 labeled and 7 unlabeled images."""
    return write_tiny_semi(tmp_path)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Write files to a folder outside the project; afterwards, everything that they changed in the process is
    undone."""
    from ppdet.core import registry

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(registry, "_schemas", dict(registry._schemas))
    before = set(sys.modules)

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
