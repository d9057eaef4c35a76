"""What cannot be exported is one line that names the setting, before weights are loaded."""

import re

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
        (
            "[8, 3, 64, 96]",
            32,
            r"got \[8, 3, 64, 96\]; .* images: write \[3, 64, 96\]; --target tensorrt .*",
        ),
        ("[two, 3, -1, -1]", 32, r"got \['two', 3, -1, -1\]; .* any number of images: write \[3, -1, -1\]; .*"),
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


BATCH = r"expected a whole number from 1 to 145: TensorRT's tensors have at most 2,147,483,647 values, .*"
NO_RESIZE = "--target tensorrt needs one size, and TestReader has no Resize: set [3, height, width]"
NO_MULTIPLE = "images for --target tensorrt would be 90x130, no multiples of the network's stride, 16: set [3, 96, 144]"


@pytest.mark.parametrize(
    ("transforms", "options", "arguments", "expected"),
    [
        ("", [], {"batch_size": 0}, rf"--batch_size 0: {BATCH}"),
        ("", [], {"batch_size": 146}, rf"--batch_size 146: {BATCH}"),
        ("", [], {"batch_size": 2.5}, rf"--batch_size 2\.5: {BATCH}"),
        ("", [], {"batch_size": 2, "target": None}, "--batch_size 2: only .*: add --target tensorrt, or leave .*"),
        ("", ["export.nms=false"], {}, r"--target tensorrt: set export\.post_process and export\.nms true, .*"),
        ("", ["export.post_process=false"], {"precision": "bf16"}, r"--target tensorrt: set export\.post_process .*"),
        ("", [], {"precision": "fp16"}, "--precision fp16: model_tensorrt.onnx is float32, and trtexec --fp16 .*"),
        ("", [], {}, rf".*padded\.yml: TestReader\.inputs_def\.image_shape: {re.escape(NO_RESIZE)}"),
        ("Resize: {target_size: [90, 130], keep_ratio: false}, ", [], {}, f".*{re.escape(NO_MULTIPLE)}, or PadBatch.*"),
    ],
)
def test_what_tensorrt_cannot_have(tmp_path, transforms, options, arguments, expected):
    pytest.importorskip("paddle2onnx")
    path = write_padded(tmp_path, images=1)
    text = path.read_text().replace("Resize: {target_size: [58, 150]}, ", transforms)
    path.write_text(text.replace("PadBatch: {pad_to_stride: 32}", "") + "weights: nowhere\n")
    with pytest.raises(ConfigError) as error:
        export_model(load_config(path, options), tmp_path / "exported", **{"target": "tensorrt", **arguments})
    assert re.fullmatch(expected, str(error.value)), error.value
    assert not (tmp_path / "exported").exists()
