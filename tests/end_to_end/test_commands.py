"""The commands that a user types, in the order in which they type them."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import call, run
from tiny import TINY_YAML, write_tiny_coco


def process(*command, code=0):
    """Every tool runs once in its own process; further cases are called in this one."""
    printed = run(*command, code=code)
    assert "Warning" not in printed and "WARNING: OMP" not in printed, printed[-3000:]
    return printed


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with data, tiny.yml, and a detector trained for two epochs by tools/train.py."""
    folder = tmp_path_factory.mktemp("run")
    write_tiny_coco(folder / "data")
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=folder / "data"))
    log = process("tools/train.py", "-c", folder / "tiny.yml", "--eval")
    assert "AP by epoch: 1: " in log
    return folder


def weights(folder):
    return f"weights={folder}/output/tiny/model_final"


def printed_numbers(log):
    return [float(v) for v in re.findall(r"maxDets= *\d+ \] = (-?[\d.]+)", log)]


def test_evaluation(trained, tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    log = call(
        *("tools/eval.py", "-c", trained / "tiny.yml", "-o", weights(trained)),
        *("FCOSHead.nms.score_threshold=0.0", "--classwise", "--output_eval", tmp_path),
    )
    assert re.search(r"red +[\d.]+ +[\d.]+ +\d+", log) and "images/s" in log
    truth = COCO(str(trained / "data" / "train.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "bbox.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert printed_numbers(log) == pytest.approx(evaluation.stats.tolist(), abs=6e-4)
    again = call("tools/eval.py", "-c", trained / "tiny.yml", "--json_eval", "--output_eval", tmp_path)
    assert printed_numbers(again) == printed_numbers(log)


def boxes_by_file(path):
    grouped = {}
    for result in json.loads(Path(path).read_text()):
        x, y, w, h = result["bbox"]
        grouped.setdefault(Path(result["file_name"]).name, []).append(
            (result["category_id"], -result["score"], x, y, x + w, y + h)
        )
    return {name: np.array(sorted(rows)) for name, rows in grouped.items()}


@pytest.mark.parametrize(("fuse", "execute"), [("true", process), ("false", call)])
def test_export_detects_as_the_dynamic_graph(trained, tmp_path, fuse, execute):
    images = trained / "data" / "images"
    options = [weights(trained), f"TestReader.fuse_normalize={fuse}", "FCOSHead.nms.score_threshold=0.001"]
    (tmp_path / "thresholds.json").write_text('{"thresholds": {"blue": 0.375}}')
    drawn = execute("tools/infer.py", "-c", trained / "tiny.yml", "-o", *options, "--infer_dir", images,
            "--save_results", "true", "--output_dir", tmp_path / "dynamic",
            "--thresholds", tmp_path / "thresholds.json", "--draw_threshold", "0.25", "--format", "coco")  # fmt: skip
    execute("tools/export_model.py", "-c", trained / "tiny.yml", "-o", *options, "--output_dir", tmp_path,
            "--thresholds", tmp_path / "thresholds.json")  # fmt: skip
    assert {p.name for p in (tmp_path / "tiny").iterdir()} >= {"model.pdiparams", "infer_cfg.yml"}
    settings = (tmp_path / "tiny" / "infer_cfg.yml").read_text()
    assert "draw_threshold: 0.5\nclass_thresholds:\n  blue: 0.375\n" in settings
    execute("deploy/python/infer.py", "--model_dir", tmp_path / "tiny", "--image_dir", images, "--batch_size", "3",
        "--save_results", "--output_dir", tmp_path / "static")  # fmt: skip
    dynamic, static = (boxes_by_file(tmp_path / kind / "bbox.json") for kind in ("dynamic", "static"))
    assert len(dynamic) == 8 and dynamic.keys() == static.keys()
    least = {3: 0.25, 7: 0.375}  # blue has its own threshold, by its name
    kept = sum(-score >= least[category] for rows in dynamic.values() for category, score, *_ in rows)
    assert f"{kept} detections with at least the score threshold of their class" in drawn
    assert len(json.loads((tmp_path / "dynamic" / "coco" / "annotations.json").read_text())["annotations"]) == kept > 0
    for name, rows in dynamic.items():
        assert rows.shape == static[name].shape
        assert np.abs(rows[:, 1] - static[name][:, 1]).max() < 1e-4
        assert np.abs(rows[:, 2:] - static[name][:, 2:]).max() < 0.1
    tables = [
        printed_numbers(executed("tools/eval.py", "-c", trained / "tiny.yml", *arguments))
        for executed, arguments in (
            (execute, ["-o", *options]),
            (call, ["--json_eval", "--output_eval", tmp_path / "static"]),
        )
    ]
    assert len(tables[0]) == 12 and tables[0] == pytest.approx(tables[1], abs=1e-3)
    picture = cv2.imread(str(tmp_path / "static" / "001.png"))
    assert picture.shape == (96, 128, 3)


@pytest.mark.parametrize(
    ("option", "outputs"),
    [("export.nms=false", 2), ("export.post_process=false", 9), ("export.benchmark=true", 9)],
)
def test_export_of_less(trained, tmp_path, option, outputs):
    from paddle import inference

    log = call("tools/export_model.py", "-c", trained / "tiny.yml", "-o", weights(trained), option,
               "export.fuse_conv_bn=true", "--output_dir", tmp_path)  # fmt: skip
    assert "exported to" in log and "next: ppdet serve" not in log
    graph = next(p for p in (tmp_path / "tiny").iterdir() if p.name in ("model.json", "model.pdmodel"))
    predictor = inference.create_predictor(inference.Config(str(graph), str(tmp_path / "tiny" / "model.pdiparams")))
    assert len(predictor.get_output_names()) == outputs
    log = call("deploy/python/infer.py", "--model_dir", tmp_path / "tiny", "--image_file",
              trained / "data" / "images" / "001.png", "--output_dir", tmp_path / "o",
              code=2)  # fmt: skip
    assert "export.nms true" in log


def test_lists_and_broken_images(trained, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    paths = [trained / "data" / "images" / "001.png", tmp_path / "broken.jpg", tmp_path / "missing.png"]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)))
    options = ["--infer_list", tmp_path / "list.txt", "--output_dir", tmp_path / "o"]
    log = call("tools/infer.py", "-c", trained / "tiny.yml", "-o", weights(trained), *options)
    assert "broken.jpg" in log and "missing.png" in log and "2 of 3 images could not be read" in log
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["001.png"]
    own = trained / "data" / "images"
    same = ["--infer_dir", own, "--output_dir", own]
    log = call("tools/infer.py", "-c", trained / "tiny.yml", "-o", weights(trained), *same, code=2)
    assert "would overwrite the images themselves" in log
    (tmp_path / "list.txt").write_text(str(tmp_path / "broken.jpg"))
    log = call("tools/infer.py", "-c", trained / "tiny.yml", "-o", weights(trained), *options, code=2)
    assert "error: none of the 1 images could be read" in log


@pytest.mark.parametrize(
    ("execute", "arguments", "message"),
    [
        (call, ["tools/train.py", "-c", "none.yml"], "none.yml"),
        (call, ["tools/train.py", "-c", "{tiny}", "-o", "FCOSHed.num_shift=0"], "FCOSHead"),
        (process, ["tools/eval.py", "-c", "{tiny}"], "-o weights="),
        (call, ["tools/eval.py", "-c", "{tiny}", "-o", "weights=nowhere/model"], "nowhere/model"),
        (call, ["tools/infer.py", "-c", "{tiny}", "--infer_img", "none.jpg"], "none.jpg"),
        (call, ["tools/train.py", "-c", "{tiny}", "-o", "TrainDataset.dataset_dir=/none"], "/none"),
        (
            call,
            ["tools/train.py", "-c", "{tiny}", "-o", "pretrain_weights=http://127.0.0.1:9/w.pdparams"],
            "w.pdparams",
        ),
        (
            call,
            ["tools/train.py", "-c", "{tiny}", "--profiler_options", "state=TPU"],
            "state: expected one of CPU, GPU, All",
        ),
        (
            process,
            ["deploy/python/infer.py", "--model_dir", "/none", "--image_file", "{image}"],
            "`ppdet export` wrote",
        ),
    ],
)
def test_mistakes_get_one_line(trained, execute, arguments, message):
    image = trained / "data" / "images" / "001.png"
    arguments = [a.format(tiny=trained / "tiny.yml", image=image) for a in arguments]
    log = execute(*arguments, code=2)
    assert "Traceback" not in log
    last = log.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_resuming(trained, tmp_path):
    output = f"save_dir={trained}/output"
    log = call("tools/train.py", "-c", trained / "tiny.yml", "-r", trained / "output" / "tiny" / "0", "-o", output)
    assert "resumed from" in log and "Epoch: [2/2] [1/4]" in log and "Epoch: [1/2]" not in log
