"""Names in a repository for Triton, what it refuses, and its end; other exports' tests compare it with their file."""

import onnx
import pytest
from onnx import TensorProto, helper

from ppdet.engine.export.graph import replace_files
from ppdet.engine.export.triton import model_name, with_onnx, write_repository
from ppdet.utils.errors import ConfigError


def write(path, kind=TensorProto.FLOAT, shape=("batch", 3)):
    """An ONNX file that returns its input."""
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", values[:1], values[1:])
    onnx.save(helper.make_model(graph), str(path))
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fcos_r50.v1-2x", "fcos_r50.v1-2x"),
        ("my model/ä", "my_model_"),
        ("..", "model"),
        ("-.x", "x"),
        ("模型", "model"),
        ('a"\n', "a_"),
    ],
)
def test_names_are_folders_and_addresses(name, expected):
    assert model_name(name) == expected


def test_triton_takes_the_onnx_file_along():
    assert with_onnx(["triton"]) == ["onnx"] and with_onnx(["onnx", "triton"]) == ["onnx"]
    assert with_onnx(["openvino", "triton"]) == ["onnx", "openvino"] and with_onnx(["openvino"]) == ["openvino"]


@pytest.mark.parametrize(("kind", "shape"), [(TensorProto.COMPLEX64, [1]), (TensorProto.FLOAT, [])])
def test_what_triton_does_not_take_is_one_line(tmp_path, kind, shape):
    with pytest.raises(ConfigError, match=r"^--format triton: x has type [^\n]*$"):
        write_repository(write(tmp_path / "model.onnx", kind, shape), tmp_path, "name", [])


def test_labels_have_a_line_each(tmp_path):
    folder = write_repository(write(tmp_path / "model.onnx"), tmp_path, "name", ["red\nlight", "grün", ""])
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "red light\ngrün\n\n"


def test_the_next_export_replaces_or_removes_the_repository(tmp_path):
    folder = tmp_path / "exported"
    for name, expected in (("first", ["first"]), ("second", ["second"]), (None, None)):
        target = tmp_path / "files"
        target.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        file = write(target / "model.onnx")
        if name:
            write_repository(file, target, name, [])
        replace_files(folder, target)
        found = [path.name for path in (folder / "triton").iterdir()] if (folder / "triton").exists() else None
        assert found == expected and (folder / "model.onnx").is_file()
