"""--tta of all commands, against plain detection in images that were flipped and resized beforehand."""

import json
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
import yaml
from commands import call
from tiny import TINY_YAML, write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.deploy.tta import TTA, Suppression
from ppdet.engine.build import build_model
from ppdet.engine.export.graph import export_model
from ppdet.engine.predictor import Predictor

W = 128
SCALES = (1.0, 0.75)
OPTIONS = ("--tta", "--tta_scales", *SCALES, "--tta_merge", "weighted", "--tta_iou", 0.7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """data/ with three images, its configuration tiny.yml, weights w, and the exported model."""
    folder = tmp_path_factory.mktemp("tta")
    data = write_tiny_coco(folder / "data", images=3)
    text = TINY_YAML.format(output=folder / "output", data=data).replace("[Decode: {}, N", "[Decode: {}, {R}, N")
    (folder / "tiny.yml").write_text(text.replace("{R}", "Resize: {target_size: [96, 128]}"))
    paddle.seed(0)
    paddle.save(build_model(config(folder)).state_dict(), str(folder / "w.pdparams"))
    export_model(config(folder), str(folder / "exported"))
    return folder


def options(folder):
    return [f"weights={folder}/w", "FCOSHead.nms.score_threshold=0.001", "FCOSHead.nms.keep_top_k=20"]


def config(folder, *more):
    return load_config(str(folder / "tiny.yml"), [*options(folder), *more])


@pytest.fixture(scope="module")
def expected(folder, tmp_path_factory):
    """Detections in flipped copies of the images and with another target_size, merged: rows of each image."""
    flipped = tmp_path_factory.mktemp("flipped")
    paths = sorted((folder / "data" / "images").iterdir())
    for path in paths:
        cv2.imwrite(str(flipped / path.name), cv2.flip(cv2.imread(str(path)), 1))
    found = [[] for _ in paths]
    for scale in SCALES:
        size = [round(96 * scale), round(128 * scale)]
        transforms = f"[Decode: {{}}, Resize: {{target_size: {size}}}, NormalizeImage: {{}}, Permute: {{}}]"
        predictor = Predictor(config(folder, f"TestReader.sample_transforms={transforms}"))
        for source in (paths[0].parent, flipped):
            for place, rows in predictor.detect([str(source / path.name) for path in paths]):
                if source == flipped:
                    rows[:, [2, 4]] = W - rows[:, [4, 2]]
                found[place].append(rows)
    tta = TTA(SCALES, merge="weighted", iou=0.7)
    merged = [tta.merge_views(parts, Suppression(0.001, 0.6, 20)) for parts in found]
    assert all(len(rows) > 5 for rows in merged)
    return {path.name: rows for path, rows in zip(paths, merged)}


def check(path, expected):
    results = json.loads(Path(path).read_text())
    for number, (name, rows) in enumerate(expected.items(), start=1):
        mine = [one for one in results if one.get("file_name", name).endswith(name)]
        mine = [one for one in mine if "file_name" in one or one["image_id"] == number]
        actual = np.array([[one["score"], *one["bbox"]] for one in mine])
        actual[:, 3:] += actual[:, 1:3]
        assert [one["category_id"] for one in mine] == [(3, 7)[int(label)] for label in rows[:, 0]]
        np.testing.assert_allclose(actual[:, 0], rows[:, 1], atol=1e-4)
        np.testing.assert_allclose(actual[:, 1:], rows[:, 2:], atol=0.05)


def test_evaluation_and_inference(folder, expected, tmp_path):
    given = ("-c", folder / "tiny.yml", "-o", *options(folder))
    log = call("tools/eval.py", *given, *OPTIONS, "--output_eval", tmp_path)
    assert "4 views, scales 1 0.75, flip horizontal, merged by weighted" in log and "(AP)" in log
    check(tmp_path / "bbox.json", expected)
    images = folder / "data" / "images"
    call("tools/infer.py", *given, *OPTIONS, "--infer_dir", images, "--save_results", "true",
        "--output_dir", tmp_path / "dynamic")  # fmt: skip
    check(tmp_path / "dynamic" / "bbox.json", expected)
    assert cv2.imread(str(tmp_path / "dynamic" / "001.png")).shape == (96, W, 3)


def test_the_exported_model(folder, expected, tmp_path):
    model = folder / "exported" / "tiny"
    settings = yaml.safe_load((model / "infer_cfg.yml").read_text())
    assert settings["nms"] == {"score_threshold": 0.001, "nms_threshold": 0.6, "keep_top_k": 20}
    images = folder / "data" / "images"
    call("deploy/python/infer.py", "--model_dir", model, *OPTIONS, "--image_dir", images, "--batch_size", 2,
        "--save_results", "--output_dir", tmp_path)  # fmt: skip
    check(tmp_path / "bbox.json", expected)


@pytest.mark.parametrize("file", ["tools/eval.py", "tools/infer.py"])
def test_mistakes_are_told_at_once(file, folder):
    given = ("-c", folder / "tiny.yml", *(() if "eval" in file else ("--infer_img", "a.jpg")))
    assert "--tta_flip has no effect without --tta" in call(file, *given, "--tta_flip", "both", code=2)
    assert "leave --slice_infer out" in call(file, *given, "--tta", "--slice_infer", code=2)
