"""What cannot be exported is one line that names the setting, before weights are loaded."""

import pytest
from noise import write_padded

from ppdet.core.workspace import load_config
from ppdet.engine.export.graph import export_model
from ppdet.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [
        ("[3, 60, 100]", 32, r"got \[3, 60, 100\]; .* multiples of 32, .*: use \[3, 32, 96\] or \[3, 64, 128\]$"),
        ("[3, 20, 96]", 32, r"got \[3, 20, 96\]; .*: use \[3, 32, 96\]$"),
        ("[1, 3, 640, 650]", 32, r"got \[3, 640, 650\]; .*: use \[3, 640, 640\] or \[3, 640, 672\]$"),
        # The network would take it, but no image is padded to it.
        ("[3, 64, 96]", 64, r"got \[3, 64, 96\]; .* multiples of 64, .*: use \[3, 64, 64\] or \[3, 64, 128\]$"),
        ("[3, 0, 64]", 32, r"expected \[3, height, width\], got \[3, 0, 64\]$"),
        ("[3, 64, wide]", 32, r"expected \[3, height, width\], got \[3, 64, 'wide'\]$"),
        ("[3, 64.0, 64]", 32, r"expected \[3, height, width\], got \[3, 64.0, 64\]$"),
        ("[3, 64, null]", 32, r"got \[3, 64, None\]: set both height and width$"),
    ],
)
def test_sizes_that_a_graph_cannot_have(tmp_path, shape, stride, expected):
    path = write_padded(tmp_path, images=1)
    text = path.read_text().replace("pad_to_stride: 32", f"pad_to_stride: {stride}")
    path.write_text(f"{text}  inputs_def: {{image_shape: {shape}}}\nweights: nowhere\n")
    with pytest.raises(ConfigError, match=rf"padded\.yml:6: TestReader\.inputs_def\.image_shape: {expected}"):
        export_model(load_config(path), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
