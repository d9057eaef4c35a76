"""The client of docs/INPUTS_OUTPUTS.md for exports without NMS, run from the page, detects what the model detects."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from noise import noisy, write_padded

from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "INPUTS_OUTPUTS.md").read_text(encoding="utf-8")
OPTIONS = ["FCOSHead.level_top_k=100", "FCOSHead.last_pixel=true"]
LIMITS = {"score_threshold": 0.01, "nms_threshold": 0.6, "nms_top_k": 200, "keep_top_k": 150}


def client() -> str:
    """The client as the page puts it together."""
    first, last = (re.search(rf"### {title}\n.+?```python\n(.+?)```", PAGE, re.DOTALL)[1]
                   for title in ("Python with ONNX Runtime", "Boxes: NumPy after ONNX Runtime"))  # fmt: skip
    return first[: first.index("for label, score")] + last


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A configuration and its export without NMS, to which `settings` adds those of NMS."""
    folder = tmp_path_factory.mktemp("boxes")
    path = write_padded(folder, images=1)
    return path, export_model(noisy(path, [*OPTIONS, *settings(LIMITS), "export.nms=false"]), folder, formats=["onnx"])


def settings(limits):
    return [f"FCOSHead.nms.{key}={value}" for key, value in limits.items()]


@pytest.mark.parametrize("limit", [
    {}, {"nms_top_k": -1, "keep_top_k": -1}, {"score_threshold": 0.495}, {"nms_top_k": 6}, {"keep_top_k": 20},
    {"nms_threshold": 0.3},
])  # fmt: skip
def test_the_client_detects_what_the_model_detects(exported, tmp_path, monkeypatch, capsys, limit):
    path, folder = exported
    model = onnx.load(folder / "model.onnx")
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert limit or {key: json.loads(said[f"ppdet.{key}"]) for key in LIMITS} == LIMITS
    limits = {**LIMITS, **limit}
    onnx.helper.set_model_props(model, said | {f"ppdet.{key}": str(value) for key, value in limits.items()})
    onnx.save(model, tmp_path / "model.onnx")
    image = next((path.parent / "data" / "images").iterdir())
    [(_, expected)] = Predictor(noisy(path, [*OPTIONS, *settings(limits)])).detect([str(image)])
    monkeypatch.setattr(sys, "argv", ["client.py", str(tmp_path), str(image)])
    exec(compile(client(), "boxes of INPUTS_OUTPUTS.md", "exec"), {})
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(found) == len(expected) > 5
    names = json.loads(said["ppdet.names"])
    numbers = np.array([[names.index(name), *map(float, row)] for name, *row in found])
    np.testing.assert_array_equal(numbers[:, 0], expected[:, 0])
    np.testing.assert_allclose(numbers[:, 1], expected[:, 1], atol=2e-4)
    np.testing.assert_allclose(numbers[:, 2:], expected[:, 2:], atol=0.02)
