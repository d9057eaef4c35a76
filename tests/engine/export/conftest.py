"""Fixtures that the tests of export share."""

from pathlib import Path

import pytest
from noise import noisy, write_padded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images in data/images, padded.yml, and weights in noise.pdparams with which it detects something."""
    folder = tmp_path_factory.mktemp("export")
    noisy(write_padded(folder, images=3))
    return folder
