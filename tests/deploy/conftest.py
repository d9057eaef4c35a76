"""Fixtures that the tests of deployment share."""

from pathlib import Path

import pytest
from noise import noisy, write_padded
from toy import write_toy

from ppdet.engine.export.graph import export_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the toy model, for test modules that have no other one."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def padded_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export to all formats of a model that detects something everywhere, for tests that change nothing in it.

    Its images are in ../data/images.
    """
    folder = tmp_path_factory.mktemp("padded")
    return export_model(noisy(write_padded(folder, images=4)), str(folder), formats=["openvino", "triton"])
