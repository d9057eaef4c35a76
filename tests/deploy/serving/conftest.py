"""A tiny exported detector, and its images."""

from pathlib import Path

import pytest
from serving import export_tiny


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny exported detector that finds something in everything; its images: see `images`."""
    return export_tiny(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def images(served: Path) -> list[bytes]:
    """Files: three images of 101 x 77, and one of 50 x 77 pixels."""
    paths = sorted((served.parents[1] / "data" / "images").iterdir())
    return [path.read_bytes() for path in paths]
