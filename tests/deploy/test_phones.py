"""Maps of a detector in the engines of phones: the client of docs/INPUTS_OUTPUTS.md detects what the model detects."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from noise import noisy, write_padded

from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "INPUTS_OUTPUTS.md").read_text(encoding="utf-8")
OPTIONS = ["TestReader.inputs_def.image_shape=[3, 64, 96]", "FCOSHead.nms.score_threshold=0.3"]
ENGINES = {"ncnn": 1, "ai_edge_litert": 2, "onnxruntime": 3}  # which block of the section has it


def client(engine: str) -> str:
    """The client as the page puts it together."""
    section = PAGE.split("### Maps: ")[1].split("\n### ")[0]
    blocks = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    assert len(blocks) == 5 and engine in blocks[ENGINES[engine]]
    shared = re.search(r"^steps = .+?^scale_factor, .+?\n", PAGE, re.DOTALL | re.MULTILINE)[0]
    return "\n".join([blocks[0], shared, blocks[ENGINES[engine]], blocks[-1]])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder of maps, an image that leaves padding on two sides, and the model's detections in it."""
    folder = tmp_path_factory.mktemp("phones")
    path = write_padded(folder, images=1)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = folder / "image.png"
    cv2.imwrite(str(image), cv2.resize(noise, (101, 77), interpolation=cv2.INTER_CUBIC))
    cfg = noisy(path, [*OPTIONS, "export.post_process=false"])
    [(_, rows)] = Predictor(cfg).detect([str(image)])
    return export_model(cfg, folder / "maps", formats=["onnx"]), image, rows


def test_group_norms_are_computed_in_four_dimensions(exported):
    """pnnx would leave others to ncnn as a layer that it does not have."""
    model = onnx.shape_inference.infer_shapes(onnx.load(exported[0] / "model.onnx"))
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    norms = [node for node in model.graph.node if node.op_type == "InstanceNormalization"]
    assert norms and {ranks[node.output[0]] for node in norms} == {4}


def convert_to_ncnn(folder: Path) -> None:
    # The package's own command imports PyTorch, which the program itself does not need.
    found = importlib.util.find_spec("pnnx")
    if not found or not found.submodule_search_locations:
        pytest.skip("pnnx is not installed")
    program = Path(found.submodule_search_locations[0]) / "pnnx"
    subprocess.run([program, "model.onnx", "fp16=0"], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def convert_to_tflite(folder: Path) -> None:
    program = shutil.which("onnx2tf")  # it needs versions of its own, so it is installed elsewhere
    if not program:
        pytest.skip("there is no program onnx2tf")
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [program, "-i", "model.onnx", "-o", "."]
    subprocess.run(command, cwd=folder, env=alone, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_client_detects_what_the_model_detects(exported, tmp_path, monkeypatch, capsys, engine):
    pytest.importorskip(engine)
    maps, image, expected = exported
    shutil.copy(maps / "model.onnx", tmp_path)
    {"ncnn": convert_to_ncnn, "ai_edge_litert": convert_to_tflite}.get(engine, str)(tmp_path)
    monkeypatch.setattr(sys, "argv", ["client.py", str(tmp_path), str(image)])
    exec(compile(client(engine), f"{engine} of INPUTS_OUTPUTS.md", "exec"), {})
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    names = yaml.safe_load((maps / "infer_cfg.yml").read_text(encoding="utf-8"))["label_list"]
    assert len(found) == len(expected) > 3
    numbers = np.array([[names.index(name), *map(float, row)] for name, *row in found])
    np.testing.assert_array_equal(numbers[:, 0], expected[:, 0])
    np.testing.assert_allclose(numbers[:, 1], expected[:, 1], atol=2e-4)
    np.testing.assert_allclose(numbers[:, 2:], expected[:, 2:], atol=0.02)
