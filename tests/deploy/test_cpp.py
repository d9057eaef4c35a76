"""The C++ examples find what the Python Detector finds.

PPDET_PADDLE_INFERENCE and PPDET_ONNXRUNTIME name the folders of the engines' C++ libraries.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy import write_toy
from toy_onnx import write_model

from ppdet.deploy.detector import Detector

ROOT = Path(__file__).resolve().parents[2]
NORMALIZE = {"type": "NormalizeImage", "mean": [0.2, 0.1, 0.3], "std": [0.5, 0.4, 0.6], "is_scale": True}


@dataclass(frozen=True)
class Example:
    """An example of deploy/cpp: the engine's name in `Detector`, where its library is, and a model for it."""

    backend: str
    folder: str
    variable: str  # of the environment: the library's folder
    option: str  # of CMake, likewise
    headers: str
    write: Callable[..., Path]


def write_for_paddle(folder, operations, size=None, **settings):
    return write_toy(folder, operations, **settings)


def write_for_onnxruntime(folder, operations, size=("h", "w"), **settings):
    return write_model(folder, size, operations, **settings)


EXAMPLES = {
    "paddle": Example(
        "paddle", ".", "PPDET_PADDLE_INFERENCE", "PADDLE_DIR", "paddle/include/paddle_inference_api.h", write_for_paddle
    ),
    "onnxruntime": Example(
        *("onnxruntime", "onnxruntime", "PPDET_ONNXRUNTIME", "ONNXRUNTIME_DIR", "include/onnxruntime_cxx_api.h"),
        write_for_onnxruntime,
    ),
}


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request):
    return EXAMPLES[request.param]


@pytest.fixture(scope="module")
def program(example, tmp_path_factory):
    library = os.environ.get(example.variable, "")
    if not (Path(library) / example.headers).is_file():
        pytest.skip(f"{example.variable} names no folder with {example.headers}")
    if not shutil.which("cmake"):
        pytest.skip("there is no cmake")
    build = tmp_path_factory.mktemp("build")
    commands = (
        ["cmake", "-S", ROOT / "deploy" / "cpp" / example.folder, "-B", build, f"-D{example.option}={library}"],
        ["cmake", "--build", build],
    )
    for command in commands:
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
    assert "deprecated" not in result.stdout + result.stderr
    return build / "detect"


def run(program, *arguments, code=0):
    result = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stderr


@pytest.mark.parametrize(
    ("file", "operations"),
    [
        ("image.png", [{"type": "Resize", "target_size": [64, 128], "keep_ratio": True, "interp": 1}, NORMALIZE,
                       {"type": "Permute"}, {"type": "PadStride", "stride": 32, "size": [100, 140]}]),
        ("image.png", [{"type": "Resize", "target_size": [80, 120], "keep_ratio": False, "interp": 2},
                       {**NORMALIZE, "channel_order": "bgr"}, {"type": "Permute"}]),
        ("image.png", [{"type": "Resize", "target_size": [64, 64], "keep_ratio": True, "interp": 1},
                       {"type": "Pad", "size": [96, 96], "fill_value": [114.0, 50.0, 1.0]}, {"type": "Permute"}]),
        # Decoded at a quarter of its size.
        ("image.jpg", [{"type": "Resize", "target_size": [40, 60], "keep_ratio": True, "interp": 1}, NORMALIZE,
                       {"type": "Permute"}]),
    ],
)  # fmt: skip
def test_finds_what_python_finds(example, program, tmp_path, file, operations):
    folder = example.write(tmp_path, operations, label_list=["dark", "bright"])
    noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / file), noise)
    detector = Detector(folder, example.backend, threads=1)
    (expected,) = detector.predict(str(tmp_path / file)).rows
    arguments = [folder, tmp_path / file, "--threshold", -100, "--threads", 1, "--output", tmp_path / "o.png"]
    name, *numbers = run(program, *arguments).split()
    assert name == "bright" and np.allclose([float(n) for n in numbers], expected[1:], atol=2e-3)
    assert cv2.imread(str(tmp_path / "o.png")).shape == noise.shape


def test_a_folder_in_int8_has_a_file_of_its_own(example, program, tmp_path):
    if example.backend != "onnxruntime":
        pytest.skip("Paddle Inference has no int8 here")
    cv2.imwrite(str(tmp_path / "image.png"), np.full((64, 96, 3), 102, np.uint8))
    folder = example.write(tmp_path, [NORMALIZE, {"type": "Permute"}], precision="int8")
    arguments = [folder, tmp_path / "image.png", "--threshold", -100, "--threads", 1]
    assert "model_int8.onnx: no such file" in run(program, *arguments, code=2)
    (folder / "model.onnx").rename(folder / "model_int8.onnx")
    (expected,) = Detector(folder, "onnxruntime", threads=1).predict(str(tmp_path / "image.png")).rows
    assert np.allclose([float(n) for n in run(program, *arguments).split()[1:]], expected[1:], atol=2e-3)


def test_each_class_has_the_threshold_of_the_model(example, program, tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), np.full((64, 96, 3), 102, np.uint8))  # found with a score of 0.4
    operations = [{**NORMALIZE, "mean": [0, 0, 0], "std": [1, 1, 1]}, {"type": "Permute"}]
    for settings, options, count in (
        ({}, (), 0),  # 0.5
        ({"draw_threshold": 0.3}, (), 1),
        ({"draw_threshold": 0.3, "class_thresholds": {"bright": 0.5}}, (), 0),
        ({"draw_threshold": 0.9, "class_thresholds": {"dark": 0.9, "bright": 0.375}}, (), 1),
        ({"draw_threshold": 0.9, "class_thresholds": {"dark": 0.1}}, (), 0),
        ({"class_thresholds": {"bright": 0.9}}, ("--threshold", 0.3), 1),
    ):
        folder = example.write(tmp_path, operations, label_list=["dark", "bright"], **settings)
        said = run(program, folder, tmp_path / "image.png", "--threads", 1, *options)
        assert said.count("bright 0.4") == said.count("\n") == count, settings


def test_a_graph_of_one_size(example, program, tmp_path):
    """Images are padded to it, and larger ones are an error."""
    operations = [NORMALIZE, {"type": "Permute"}]
    folder = example.write(tmp_path, operations, (64, 96), use_dynamic_shape=False, image_shape=[3, 64, 96])
    for height, width in ((50, 70), (64, 97), (65, 96)):
        cv2.imwrite(str(tmp_path / "image.png"), np.full((height, width, 3), 90, np.uint8))
        arguments = [folder, tmp_path / "image.png", "--threshold", -100, "--threads", 1]
        if width == 70:
            (expected,) = Detector(folder, example.backend, threads=1).predict(str(tmp_path / "image.png")).rows
            assert np.allclose([float(n) for n in run(program, *arguments).split()[1:]], expected[1:], atol=2e-3)
        else:
            said = run(program, *arguments, code=2)
            assert f"{height}x{width} after resizing, but the graph takes 64x96 at most" in said


def test_mistakes_are_one_line(example, program, tmp_path):
    folder = example.write(tmp_path, [NORMALIZE, {"type": "Permute"}])
    assert run(program, folder, "none.jpg", code=2).splitlines()[-1] == "error: none.jpg: not a readable image"
    assert "usage: detect MODEL_DIR IMAGE" in run(program, code=2)
    assert run(program, folder, "x", "--threshold", "y", code=2) == "error: --threshold needs a number\n"
