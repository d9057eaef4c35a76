"""The clients of docs/INPUTS_OUTPUTS.md, run as the page has them, detect what `Detector` detects.

The one in JavaScript needs its node packages in PPDET_NODE_MODULES (or deploy/web/node_modules), and the one in C++ the
folder of ONNX Runtime's C++ library in PPDET_ONNXRUNTIME.
"""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from commands import call, load
from triton_repository import check_repository

from ppdet.deploy.detector import Detector
from ppdet.engine.export.metadata import metadata_of
from ppdet.modeling.nms import MultiClassNMS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "INPUTS_OUTPUTS.md").read_text(encoding="utf-8")
RESIZE = {"type": "Resize", "target_size": [64, 96], "keep_ratio": False, "interp": 1}
NORMALIZE = {"type": "NormalizeImage", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
PERMUTE = {"type": "Permute"}
STRIDE = {"type": "PadStride", "stride": 32}
# What infer_cfg.yml and the files' own texts say otherwise than the export.
CASES = {
    "as exported": {},
    "stretched, fixed size, BGR": {
        "Preprocess": [
            RESIZE,
            {**NORMALIZE, "is_scale": True, "norm_type": "mean_std", "channel_order": "bgr"},
            PERMUTE,
            STRIDE,
        ],
        "use_dynamic_shape": False,
        "image_shape": [3, 96, 128],
        "label_list": ["grün", "蓝"],
    },
    "no division by 255": {
        "Preprocess": [
            {**RESIZE, "keep_ratio": True},
            {**NORMALIZE, "is_scale": False, "norm_type": "mean_std", "mean": [99, 120, 90], "std": [60, 70, 80]},
            PERMUTE,
            {**STRIDE, "size": [70, 200]},
        ]
    },
    "normalizes itself": {"Preprocess": [{**RESIZE, "target_size": [200, 100], "keep_ratio": True}, PERMUTE, STRIDE]},
    "as the quick start exports": {"Preprocess": [PERMUTE, STRIDE]},
}
# Builds of OpenCV differ in their bicubic resizing.
PYTHON_CASES = {
    **CASES,
    "bicubic": {"Preprocess": [{**RESIZE, "interp": 2}, {**NORMALIZE, "is_scale": True, "norm_type": "none"}, PERMUTE]},
}


def blocks(title: str, language: str) -> list[str]:
    """The code below a heading of the page."""
    section = PAGE.split(f"### {title}\n")[1].split("\n### ")[0]
    return re.findall(rf"```{language}\n(.+?)```", section, re.DOTALL)


def python_clients() -> dict[str, str]:
    [whole] = blocks("Python with ONNX Runtime", "python")
    beginning, ending = blocks("Python with OpenVINO", "python")
    shared = re.search(r"^steps = .+?^scale_factor, .+?\n", whole, re.DOTALL | re.MULTILINE)[0]
    return {"onnxruntime": whole, "openvino": f"{beginning}\n{shared}\n{ending}"}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An image with transparency, which OpenCV leaves out."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    path = tmp_path_factory.mktemp("image") / "image.png"
    cv2.imwrite(str(path), cv2.resize(noise, (101, 77), interpolation=cv2.INTER_CUBIC))
    return path


@pytest.fixture(scope="module")
def folders(padded_export, tmp_path_factory):
    """Folders of a model that detects something everywhere, one for each case."""
    return {
        name: changed(padded_export, tmp_path_factory.mktemp("clients") / "model", changes)
        for name, changes in PYTHON_CASES.items()
    }


def changed(exported: Path, folder: Path, changes: dict) -> Path:
    """Copy an export, with changed settings in infer_cfg.yml and in the texts of its files."""
    onnx = pytest.importorskip("onnx")
    shutil.copytree(exported, folder)
    settings = {**yaml.safe_load((folder / "infer_cfg.yml").read_text(encoding="utf-8")), **changes}
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    texts = metadata_of(settings, SimpleNamespace(nms=MultiClassNMS()))
    model = onnx.load(folder / "model.onnx")
    assert texts.keys() == {one.key for one in model.metadata_props}
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, folder / "model.onnx")
    tree = ET.parse(folder / "model.xml")
    for element in tree.find("rt_info/ppdet"):
        element.set("value", texts[f"ppdet.{element.tag}"])
    tree.write(folder / "model.xml", encoding="utf-8")
    return folder


def check(printed: str, folder: Path, image: Path, backend: str) -> None:
    """Compare lines `name score x1 y1 x2 y2` with the detections of `Detector`."""
    expected = Detector(folder, backend, threads=1).predict(str(image))
    found = [line.split() for line in printed.splitlines()]
    assert len(found) == len(expected) > 3
    assert [name for name, *_ in found] == expected.names
    numbers = np.array([[float(number) for number in row] for _, *row in found])
    assert np.allclose(numbers[:, 0], expected.scores, atol=2e-4)
    assert np.allclose(numbers[:, 1:], expected.boxes, atol=0.02)


@pytest.mark.parametrize(
    ("backend", "case"),
    # The client for OpenVINO takes the lines that depend on the steps from the other one.
    [*(("onnxruntime", case) for case in PYTHON_CASES), *(("openvino", case) for case in list(CASES)[:2])],
)
def test_python(folders, image, monkeypatch, capsys, case, backend):
    pytest.importorskip(backend)
    monkeypatch.setattr(sys, "argv", ["client.py", str(folders[case]), str(image)])
    names: dict = {}
    exec(compile(python_clients()[backend], f"{backend} of INPUTS_OUTPUTS.md", "exec"), names)
    if backend == "openvino":  # whose default is bfloat16 on processors that have it
        assert names["compiled"].get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    check(capsys.readouterr().out, folders[case], image, backend)


def run(command: list, folder: Path, image: Path, case: Path) -> None:
    """Run a client as a program in a folder without ppdet, and compare what it prints."""
    pytest.importorskip("onnxruntime")
    line = [str(part) for part in (*command, case, image)]
    result = subprocess.run(line, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    check(result.stdout, case, image, "onnxruntime")


def test_a_python_client_needs_nothing_else(folders, image, tmp_path):
    (tmp_path / "client.py").write_text(python_clients()["onnxruntime"], encoding="utf-8")
    run([sys.executable, "-I", "-X", "utf8", "client.py"], tmp_path, image, folders["as exported"])
    assert not re.search(r"import .*ppdet", "".join(python_clients().values()))


@pytest.mark.parametrize("case", PYTHON_CASES)
def test_the_client_of_triton(folders, image, monkeypatch, case):
    """ONNX Runtime runs the repository's file here, as the server would."""
    onnxruntime = pytest.importorskip("onnxruntime")

    def infer(url, model, arrays):
        assert url == "localhost:8000" and all(array.dtype == np.float32 for array in arrays.values())
        session = onnxruntime.InferenceSession(str(folders[case] / "triton" / model / "1" / "model.onnx"))
        return session.run(["bbox"], arrays)[0]

    monkeypatch.setattr(load("deploy/triton/client.py"), "infer", infer)
    arguments = ("--model_dir", folders[case], "--image_file", image, "--threshold", 0)
    check(call("deploy/triton/client.py", *arguments), folders[case], image, "onnxruntime")


def test_the_client_of_triton_prints_what_reaches_the_threshold_of_its_class(folders, image, tmp_path, monkeypatch):
    exported = folders["as exported"]
    settings = yaml.safe_load((exported / "infer_cfg.yml").read_text(encoding="utf-8"))
    first, second = settings["label_list"][:2]
    settings["class_thresholds"] = {second: 0.7}
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copytree(exported / "triton", tmp_path / "triton")
    found = (0, 0.6), (0, 0.4), (1, 0.7), (1, 0.6)
    rows = np.array([[*one, 1, 2, 3, 4] for one in found], np.float32)
    monkeypatch.setattr(load("deploy/triton/client.py"), "infer", lambda *_: rows)
    arguments = ("deploy/triton/client.py", "--model_dir", tmp_path, "--image_file", image)
    box = "1.00 2.00 3.00 4.00"
    assert call(*arguments) == f"{first} 0.6000 {box}\n{second} 0.7000 {box}\n"
    assert call(*arguments, "--threshold", 0.65) == f"{second} 0.7000 {box}\n"


@pytest.fixture
def tritonclient(monkeypatch):
    """A package tritonclient whose server answers with what the returned list holds: an output, None or an error."""
    answers = []

    class Client:
        def __init__(self, url):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def infer(self, model, inputs):
            if isinstance(answers[0], Exception):
                raise answers[0]
            return SimpleNamespace(as_numpy=lambda name: answers[0])

    class Input:
        def __init__(self, *arguments):
            pass

        def set_data_from_numpy(self, array):
            pass

    http = SimpleNamespace(InferInput=Input, InferenceServerClient=Client)
    monkeypatch.setitem(sys.modules, "tritonclient", SimpleNamespace(http=http))
    return answers


def test_what_stops_the_client_of_triton_is_one_line(folders, image, tmp_path, monkeypatch, tritonclient):
    exported = folders["as exported"]
    without, boxes = tmp_path / "without", tmp_path / "boxes"
    shutil.copytree(exported, without, ignore=shutil.ignore_patterns("triton"))
    shutil.copytree(exported, boxes)
    settings = yaml.safe_load((boxes / "infer_cfg.yml").read_text(encoding="utf-8"))
    (boxes / "infer_cfg.yml").write_text(yaml.safe_dump({**settings, "output": "boxes"}), encoding="utf-8")

    def line(folder=exported, file=image, *more):
        arguments = ("--model_dir", folder, "--image_file", file, *more)
        printed = call("deploy/triton/client.py", *arguments, code=2)
        return re.fullmatch(r"(?:usage: .+: )?error: ([^\n]+)\n", printed, re.DOTALL)[1]

    assert line(tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such folder")
    assert line(without) == f"{without}/triton: expected one model, found 0: `ppdet export --format triton`"
    assert "the graph ends with boxes, and this client is for detections" in line(boxes)
    assert line(exported, tmp_path / "none.jpg") == f"{tmp_path / 'none.jpg'}: no such file or directory"
    assert "expected HOST:PORT" in line(exported, image, "--url", "http://localhost:8000")
    tritonclient[:] = [ConnectionRefusedError(111, "Connection refused")]
    assert line() == "--url localhost:8000: no detections from Triton's model padded: [Errno 111] Connection refused"
    tritonclient[:] = [None]
    assert line() == "--url localhost:8000: Triton's model padded has no output bbox: is it of this export?"
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    assert line() == "tritonclient is not installed: pip install 'tritonclient[http]'"


def test_the_repository_for_triton(padded_export):
    pytest.importorskip("onnxruntime")
    sizes = check_repository(padded_export, "padded")
    assert sizes == {
        **{"image": [-1, 3, -1, -1], "scale_factor": [-1, 2], "im_shape": [-1, 2]},
        **{"bbox": [-1, 6], "bbox_num": [-1]},
    }
    labels = (padded_export / "triton" / "padded" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == yaml.safe_load((padded_export / "infer_cfg.yml").read_text(encoding="utf-8"))["label_list"]


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """The folder of client.mjs, with its packages."""
    modules = Path(os.environ.get("PPDET_NODE_MODULES", ROOT / "deploy" / "web" / "node_modules"))
    if not shutil.which("node"):
        pytest.skip("there is no node")
    for package in re.search(r"`npm install --ignore-scripts (.+?)`", PAGE)[1].split():
        if not (modules / package).is_dir():
            pytest.skip(f"{package} is not installed: PPDET_NODE_MODULES names no folder with it")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "node_modules").symlink_to(modules.resolve())
    [code] = blocks("JavaScript with ONNX Runtime", "javascript")
    (folder / "client.mjs").write_text(code, encoding="utf-8")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_javascript(javascript, folders, image, case):
    run(["node", "client.mjs"], javascript, image, folders[case])


def test_the_javascript_client_refuses_other_interpolations(javascript, folders, image):
    command = ["node", "client.mjs", str(folders["bicubic"]), str(image)]
    result = subprocess.run(command, cwd=javascript, capture_output=True, text=True)
    assert result.returncode == 1 and "this client has bilinear resizing only" in result.stderr


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    """The folder of the C++ client, built with the page's command."""
    library = os.environ.get("PPDET_ONNXRUNTIME", "")
    if not (Path(library) / "include" / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("PPDET_ONNXRUNTIME names no folder with include/onnxruntime_cxx_api.h")
    for program, arguments in (("g++", ["--version"]), ("pkg-config", ["opencv4"])):
        if not shutil.which(program) or subprocess.run([program, *arguments], capture_output=True).returncode:
            pytest.skip(f"{' '.join([program, *arguments])} fails")
    folder = tmp_path_factory.mktemp("cpp")
    [code], [commands] = blocks("C++ with ONNX Runtime", "cpp"), blocks("C++ with ONNX Runtime", "bash")
    (folder / "client.cc").write_text(code, encoding="utf-8")
    build, example = commands.replace("\\\n", " ").splitlines()
    assert example == "./client FOLDER IMAGE"
    command = ["bash", "-c", f"{build} -Wall -Wextra"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "ORT": library})
    assert result.returncode == 0, result.stderr
    assert "client.cc" not in result.stderr, "warnings"
    return folder


@pytest.mark.parametrize("case", CASES)
def test_cpp(cpp, folders, image, case):
    run(["./client"], cpp, image, folders[case])


def test_the_page_says_what_the_files_say(folders):
    """Names of inputs and outputs, and the keys of infer_cfg.yml that the page explains."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(folders["as exported"] / "model.onnx"))
    for value in [*session.get_inputs(), *session.get_outputs()]:
        assert re.search(rf"^\| `{value.name}` \| \(", PAGE, re.MULTILINE), value.name
    settings = yaml.safe_load((folders["stretched, fixed size, BGR"] / "infer_cfg.yml").read_text(encoding="utf-8"))
    steps = {step["type"]: step for step in settings["Preprocess"]}
    for step, options in steps.items():
        assert f"**{step}.**" in PAGE
        assert all(f"`{key}" in PAGE or key in ("type", "mean", "std") for key in options), options
    for key in ("label_list", "category_ids", "output", "use_dynamic_shape", "image_shape", "draw_threshold"):
        assert key in settings and f"`{key}" in PAGE
