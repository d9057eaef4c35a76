"""`ppdet detect`: what its options mean for the detector, image ids, and the benchmark."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import call
from toy import write_toy

from ppdet.cli import detect
from ppdet.deploy.benchmark import run_benchmark
from ppdet.deploy.detector import Detector
from ppdet.deploy.results import coco_image_ids
from ppdet.utils.errors import DataError, DeployError

ROOT = Path(__file__).resolve().parents[2]

DEFAULTS = {
    "backend": "auto",
    "device": "cpu",
    "precision": None,
    "threads": None,
    "tensorrt": False,
    "onednn": True,
    "max_batch": 1,
}


def options(text):
    arguments = detect.parse_arguments(["--model_dir", "m", "--image_file", "i.jpg", *text.split()])
    detect.check_modes(arguments)
    return detect.detector_options(arguments)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("--device GPU", {"device": "gpu"}),
        ("--device xpu:1 --batch_size 4", {"device": "xpu:1", "max_batch": 4}),
        ("--run_mode paddle", {"backend": "paddle"}),
        ("--enable_mkldnn=True", {"backend": "paddle"}),
        ("--enable_mkldnn False --cpu_threads 3", {"backend": "paddle", "onednn": False, "threads": 3}),
        ("--enable_mkldnn_bfloat16", {"backend": "paddle", "precision": "bf16"}),
        ("--enable_mkldnn_bfloat16 true --precision bf16", {"backend": "paddle", "precision": "bf16"}),
        ("--precision bf16", {"precision": "bf16"}),
        ("--backend openvino --precision fp16", {"backend": "openvino", "precision": "fp16"}),
        (
            "--run_mode trt_fp32 --device GPU:1 --batch_size 8",
            {"backend": "paddle", "device": "gpu:1", "precision": "fp32", "tensorrt": True, "max_batch": 8},
        ),
        (
            "--run_mode trt_fp16 --device GPU --backend onnxruntime",
            {"backend": "onnxruntime", "device": "gpu", "tensorrt": True, "precision": "fp16"},
        ),
    ],
)
def test_options(text, expected):
    assert options(text) == {**DEFAULTS, **expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--run_mode paddle --backend onnxruntime", "--run_mode paddle is for --backend paddle"),
        ("--enable_mkldnn false --backend openvino", "--enable_mkldnn is for --backend paddle"),
        ("--enable_mkldnn_bfloat16 --backend auto", "--enable_mkldnn_bfloat16 is for --backend paddle"),
        ("--enable_mkldnn_bfloat16 --enable_mkldnn false", "needs --enable_mkldnn true"),
        ("--enable_mkldnn_bfloat16 --device GPU", "and --device cpu"),
        ("--enable_mkldnn --device GPU", "--enable_mkldnn is for --device cpu"),
        ("--enable_mkldnn_bfloat16 --precision fp16", "--precision asks for fp16 and --enable_mkldnn_bfloat16 asks"),
        ("--run_mode trt_fp16", "needs --device gpu"),
        ("--run_mode trt_fp16 --device npu", "needs --device gpu"),
        ("--run_mode trt_fp16 --device GPU --precision bf16", "--precision asks for bf16 and --run_mode asks for fp16"),
        ("--run_mode trt_fp16 --device GPU --backend openvino", "which --backend openvino does not have"),
        ("--coco_json a.json", "--coco_json is for --save_results"),
        ("--coco_json a.json --save_results --run_benchmark", "--coco_json is for --save_results"),
    ],
)
def test_contradictions(text, message):
    with pytest.raises(DeployError) as error:
        options(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "--threshold 1.5",
        "--threshold x",
        "--batch_size 0",
        "--batch_size ²",
        "--cpu_threads 99999999999999999999",
        "--enable_mkldnn perhaps",
    ],
)
def test_values_out_of_range(capsys, text):
    with pytest.raises(SystemExit):
        options(text)
    assert f"argument {text.split()[0]}: expected " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "²", "99999999999999999999", "9" * 5000])
def test_cameras_are_numbers(capsys, text):
    with pytest.raises(SystemExit):
        detect.parse_arguments(["--model_dir", "m", "--camera_id", text])
    assert "expected the number of a camera" in capsys.readouterr().err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"))


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((64, 96, 3), 30 * (number + 1), np.uint8))
    return [str(folder / name) for name in names]


def test_command_takes_ids_of_annotations(folder, tmp_path):
    from pycocotools.coco import COCO

    paths = write_images(tmp_path / "images", ["a.png", "b.png", "c.png"])
    truth = {
        "images": [{"id": i, "file_name": f"images/{name}"} for i, name in ((7, "c.png"), (9, "a.png"), (4, "b.png"))],
        "annotations": [],
        "categories": [{"id": 0, "name": "dark"}, {"id": 1, "name": "bright"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    call(
        *("deploy/python/infer.py", "--model_dir", folder, "--image_dir", tmp_path / "images", "--save_results"),
        *("--coco_json", tmp_path / "truth.json", "--output_dir", tmp_path / "o", "--batch_size", 2),
        *("--backend", "paddle"),
    )
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "o" / "bbox.json"))
    scores = {row["image_id"]: row["score"] for row in loaded.dataset["annotations"]}
    assert scores == pytest.approx({9: 30 / 255, 4: 60 / 255, 7: 90 / 255}, abs=1e-3)
    files = {row["image_id"]: row["file_name"] for row in json.loads((tmp_path / "o" / "bbox.json").read_text())}
    assert files == {9: paths[0], 4: paths[1], 7: paths[2]}


def test_images_of_a_list_are_detected_in_its_order(folder, tmp_path):
    paths = write_images(tmp_path / "images", ["a.png", "b.png", "c.png"])
    (tmp_path / "list.txt").write_text(f"{paths[2]}\r\n\n{paths[0]}\n")
    options = {"--model_dir": folder, "--image_list": tmp_path / "list.txt", "--output_dir": tmp_path / "o"}
    named = [str(part) for option in options.items() for part in option]
    detect.main([*named, "--save_results", "--backend", "paddle", "--cpu_threads", "1"])
    rows = json.loads((tmp_path / "o" / "bbox.json").read_text())
    assert [(row["image_id"], row["file_name"]) for row in rows] == [(0, paths[2]), (1, paths[0])]
    assert [row["score"] for row in rows] == pytest.approx([90 / 255, 30 / 255], abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([("x/a.png", 1), ("y/a.png", 2)], "2 of its images have that name"),
        ([("b.png", 1)], "it is not in it"),
        ("no list", "image 0 has no 'id'"),
    ],
)
def test_images_that_annotations_do_not_name(tmp_path, content, message):
    paths = write_images(tmp_path / "z", ["a.png"])
    rows = [{"file_name": name, "id": i} for name, i in content] if isinstance(content, list) else [content]
    (tmp_path / "t.json").write_text(json.dumps({"images": rows}))
    with pytest.raises(DataError, match=message):
        coco_image_ids(str(tmp_path / "t.json"), paths)


def test_image_ids_by_folder(tmp_path):
    paths = write_images(tmp_path / "x", ["a.png"]) + write_images(tmp_path / "y", ["a.png"])
    rows = [{"file_name": "y/a.png", "id": 5}, {"file_name": "x/a.png", "id": 3}]
    (tmp_path / "t.json").write_text(json.dumps({"images": rows}))
    assert coco_image_ids(str(tmp_path / "t.json"), paths) == [3, 5]
    (tmp_path / "t.json").write_text(json.dumps({"images": [{"file_name": "a.png", "id": 3}]}))
    with pytest.raises(DataError, match="are the same image"):
        coco_image_ids(str(tmp_path / "t.json"), paths)


def test_benchmark(folder, tmp_path, capsys, log):
    paths = write_images(tmp_path / "images", [f"{i}.png" for i in range(5)])
    (tmp_path / "broken.png").write_bytes(b"no")
    detector = Detector(folder, "paddle", threads=1)
    report = run_benchmark(detector, [*paths, str(tmp_path / "broken.png")], tmp_path / "o", batch_size=2, runs=4)
    assert json.loads((tmp_path / "o" / "benchmark.json").read_text()) == report
    assert report["runs"] == 4 and report["images"] == 5 and report["batch_size"] == 2
    assert report["backend"] == "paddle" and report["precision"] == "fp32" and report["threads"] == 1
    assert report["detections_per_image"] == 1 and report["versions"]["paddlepaddle"]
    assert "broken.png" in log.text
    times = report["milliseconds"]
    assert all(0 < row["p50"] <= row["p90"] <= row["p99"] for row in times.values())
    parts = sum(times[name]["mean"] for name in ("preprocess", "inference", "postprocess"))
    assert times["total"]["mean"] == pytest.approx(parts)
    assert report["images_per_second"] == pytest.approx(2 * 1000 / times["total"]["mean"])
    assert 50 < report["peak_memory_mib"] < 100_000
    table = capsys.readouterr().out
    assert "paddle, fp32, cpu, 1 threads: 4 batches of 2, 5 images" in table
    assert f"{times['inference']['p90']:.2f}" in table
    # More images than runs: each of them is measured.
    assert run_benchmark(detector, paths, tmp_path / "o", runs=1)["runs"] == 5
    with pytest.raises(DataError, match="none of the 1 images could be read"):
        run_benchmark(detector, [str(tmp_path / "broken.png")], tmp_path / "o")


@pytest.mark.parametrize("paths", [["col/a/b_c.jpg", "col/a_b/c.jpg", "col/z/c.jpg"], ["x.tif", "x.tif.png"]])
def test_pictures_never_share_a_name(paths):
    from ppdet.deploy.results import picture_names

    names = picture_names(paths)
    assert len(set(names)) == len(paths) and all(name.endswith((".jpg", ".png")) for name in names)
