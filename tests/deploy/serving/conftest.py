"""A tiny exported detector, its images, and the page of its server in a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from serving import Client, ServerProcess, export_tiny

from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.service import Service


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny exported detector that finds something in everything; its images: see `images`."""
    return export_tiny(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def images(served: Path) -> list[bytes]:
    """Files: three images of 101 x 77, and one of 50 x 77 pixels."""
    paths = sorted((served.parents[1] / "data" / "images").iterdir())
    return [path.read_bytes() for path in paths]


@pytest.fixture(scope="session")
def running(served: Path) -> Iterator[Client]:
    """A service of this model that runs."""
    with Client(Service(ServedModel(served), Settings(timeout_s=PATIENCE))) as client:
        yield client


@pytest.fixture(scope="session")
def token_server(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The server of this model in a process of its own, with the token open-sesame."""
    with ServerProcess(served, tmp_path_factory.mktemp("log") / "log", token="open-sesame") as server:
        yield server


@pytest.fixture
def client(running: Client) -> Client:
    """The running service, which a test leaves as it found it."""
    assert running.service.obstacle is None and running.service.admitted == 0
    return running


@pytest.fixture
def page(browser: Any, token_server: ServerProcess) -> Iterator[Any]:
    """The page, without the token; afterwards, nothing may have gone wrong in it."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    page.problems, page.requests = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text) if "Content Security" in line.text else None)
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(token_server.url)
    yield page
    assert page.problems == []
    assert all(url.startswith((token_server.url, "data:", "blob:")) for url in page.requests), page.requests
    context.close()
