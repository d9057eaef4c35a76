"""Fixtures that the tests of deployment share."""

from pathlib import Path

import pytest
from noise import noisy, write_padded

from ppdet.engine.export.graph import export_model


@pytest.fixture(scope="session")
def padded_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export to all formats of a model that detects something everywhere, for tests that change nothing in it.

    Its images are in ../data/images.
    """
    folder = tmp_path_factory.mktemp("padded")
    return export_model(noisy(write_padded(folder, images=4)), str(folder), formats=["openvino", "triton"])
