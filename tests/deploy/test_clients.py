"""The clients of docs/INPUTS_OUTPUTS.md, run as the page has them, detect what `Detector` detects."""

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from commands import call, load
from noise import noisy, write_padded
from triton_repository import check_repository

from ppdet.deploy.detector import Detector
from ppdet.engine.export.graph import export_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "INPUTS_OUTPUTS.md").read_text(encoding="utf-8")
CASES = {
    "normalizes itself": ["TestReader.fuse_normalize=true"],
    "stretched, fixed size, BGR": [
        "TestReader.sample_transforms.1.Resize={target_size: [64, 96], keep_ratio: false, interp: 2}",
        "TestReader.sample_transforms.2.NormalizeImage={channel_order: bgr}",
        "TestReader.inputs_def.image_shape=[3, 96, 128]",
    ],
}


def blocks(title: str) -> list[str]:
    """The Python code below a heading of the page."""
    section = PAGE.split(f"### {title}\n")[1].split("\n### ")[0]
    return re.findall(r"```python\n(.+?)```", section, re.DOTALL)


def python_clients() -> dict[str, str]:
    [whole] = blocks("Python with ONNX Runtime")
    beginning, ending = blocks("Python with OpenVINO")
    shared = re.search(r"^steps = .+?^scale_factor, .+?\n", whole, re.DOTALL | re.MULTILINE)[0]
    return {"onnxruntime": whole, "openvino": f"{beginning}\n{shared}\n{ending}"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Folders of small models that detect something everywhere, one for each case, and an image."""
    folder = tmp_path_factory.mktemp("clients")
    path = write_padded(folder, images=1)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "image.png"), cv2.resize(noise, (101, 77), interpolation=cv2.INTER_CUBIC))
    folders = {
        name: export_model(noisy(path, options), folder / str(place), formats=["openvino", "triton"])
        for place, (name, options) in enumerate(CASES.items())
    }
    return folders, folder / "image.png"


def check(printed: str, folder: Path, image: Path, backend: str) -> None:
    """Compare lines `name score x1 y1 x2 y2` with the detections of `Detector`."""
    expected = Detector(folder, backend, threads=1).predict(str(image))
    found = [line.split() for line in printed.splitlines()]
    assert len(found) == len(expected) > 3
    assert [name for name, *_ in found] == expected.names
    numbers = np.array([[float(number) for number in row] for _, *row in found])
    assert np.allclose(numbers[:, 0], expected.scores, atol=2e-4)
    assert np.allclose(numbers[:, 1:], expected.boxes, atol=0.02)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("case", CASES)
def test_python(exported, monkeypatch, capsys, case, backend):
    pytest.importorskip(backend)
    folders, image = exported
    monkeypatch.setattr(sys, "argv", ["client.py", str(folders[case]), str(image)])
    exec(compile(python_clients()[backend], f"{backend} of INPUTS_OUTPUTS.md", "exec"), {})
    check(capsys.readouterr().out, folders[case], image, backend)


def test_a_python_client_needs_nothing_else(exported, tmp_path):
    """It runs as a program in a folder without ppdet."""
    pytest.importorskip("onnxruntime")
    folders, image = exported
    (tmp_path / "client.py").write_text(python_clients()["onnxruntime"], encoding="utf-8")
    command = [sys.executable, "-I", "client.py", folders["normalizes itself"], image]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    check(result.stdout, folders["normalizes itself"], image, "onnxruntime")
    assert not re.search(r"import .*ppdet", "".join(python_clients().values()))


@pytest.mark.parametrize("case", CASES)
def test_the_client_of_triton(exported, monkeypatch, case):
    """ONNX Runtime runs the repository's file here, as the server would."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folders, image = exported
    sizes = check_repository(folders[case], "padded")
    assert sizes["image"] == ([-1, 3, 96, 128] if "fixed" in case else [-1, 3, -1, -1])
    assert sizes["bbox"] == [-1, 6] and sizes["bbox_num"] == [-1]
    labels = (folders[case] / "triton" / "padded" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == yaml.safe_load((folders[case] / "infer_cfg.yml").read_text(encoding="utf-8"))["label_list"]

    def infer(url, model, arrays):
        assert url == "localhost:8000" and all(array.dtype == np.float32 for array in arrays.values())
        session = onnxruntime.InferenceSession(str(folders[case] / "triton" / model / "1" / "model.onnx"))
        return session.run(["bbox"], arrays)[0]

    monkeypatch.setattr(load("deploy/triton/client.py"), "infer", infer)
    arguments = ("--model_dir", folders[case], "--image_file", image, "--threshold", 0)
    check(call("deploy/triton/client.py", *arguments), folders[case], image, "onnxruntime")


def test_the_page_says_what_the_files_say(exported):
    """Names of inputs and outputs, and the keys of infer_cfg.yml that the page explains."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folders, _ = exported
    session = onnxruntime.InferenceSession(str(folders["normalizes itself"] / "model.onnx"))
    for value in [*session.get_inputs(), *session.get_outputs()]:
        assert re.search(rf"^\| `{value.name}` \| \(", PAGE, re.MULTILINE), value.name
    settings = yaml.safe_load((folders["stretched, fixed size, BGR"] / "infer_cfg.yml").read_text(encoding="utf-8"))
    steps = {step["type"]: step for step in settings["Preprocess"]}
    for step, options in steps.items():
        assert f"**{step}.**" in PAGE
        assert all(f"`{key}" in PAGE or key in ("type", "mean", "std") for key in options), options
    for key in ("label_list", "category_ids", "output", "use_dynamic_shape", "image_shape", "draw_threshold"):
        assert key in settings and f"`{key}" in PAGE
