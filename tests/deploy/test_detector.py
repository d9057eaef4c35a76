"""Exported folders: their content, and errors for damaged ones."""

import numpy as np
import paddle
import pytest
import yaml
from toy import write_toy

from ppdet.deploy.detector import Detector
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.utils.errors import DeployError, ImageError


class Upsampling(paddle.nn.Layer):
    """Two boxes for every image, of the brightness of its corner; with the upsampling of PaddleDetection's graphs."""

    def __init__(self):
        super().__init__()
        mean = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(1 / 3))
        self.gray = paddle.nn.Conv2D(3, 1, 1, weight_attr=mean, bias_attr=False)

    def forward(self, image, scale_factor):
        twice = paddle.nn.functional.interpolate(image, scale_factor=2.0, mode="nearest")
        score = self.gray(twice)[:, 0, 0, 0]
        ones = score * 0 + 1
        row = paddle.stack([ones * 0, score, ones, ones * 2, ones * 3 / scale_factor[:, 1], ones * 4], axis=1)
        rows = paddle.concat([row.unsqueeze(1), row.unsqueeze(1)], axis=1).reshape([-1, 6])
        return rows, (ones * 2).astype("int32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # As PaddleDetection writes it: no category ids, and its own spelling of padding.
    preprocess = [
        {"type": "Resize", "target_size": [32, 64], "keep_ratio": True, "interp": 1},
        {"type": "NormalizeImage", "mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True, "norm_type": "mean_std"},
        {"type": "Permute"},
        {"type": "PadStride", "stride": 32},
    ]
    return write_toy(tmp_path_factory.mktemp("toy"), preprocess, Upsampling(), label_list=["a", "b"])


def test_graph_that_onednn_rejects_runs_without_it(folder, log):
    detector = Detector(folder)
    images = [np.full((16, 32, 3), value, np.uint8) for value in (51, 102)]
    first, second = detector.predict(images)
    # Twice as large on the way in: x2 is halved on the way out.
    assert np.allclose(first.rows, [[0, 0.2, 1, 2, 1.5, 4]] * 2) and np.allclose(second.scores, 0.4)
    assert first.names == ["a", "a"] and first.classes.tolist() == [0, 0]
    if not detector.backend.onednn:
        assert "oneDNN cannot run this graph, going on without" in log.text
    assert detector.class_names == ["a", "b"] and detector.category_ids == [0, 1]
    assert np.allclose(detector.predict(images[0]).boxes, first.boxes)


def test_files_come_in_batches_and_broken_ones_are_skipped(folder, tmp_path, log):
    import cv2

    paths = []
    for number, value in enumerate((51, 102, 204)):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], np.full((16, 32, 3), value, np.uint8))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no")
    paths.insert(1, str(broken))
    found = dict(Detector(folder, onednn=False).detect(paths, batch_size=2))
    assert {k: round(float(rows[0, 1]), 3) for k, rows in found.items()} == {0: 0.2, 2: 0.4, 3: 0.8}
    assert "broken.png" in log.text
    with pytest.raises(ImageError):
        Detector(folder, onednn=False).predict(str(broken))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Preprocess": [{"type": "Warp"}]}, "Warp; expected one of"),
        ({"Preprocess": [{"type": "Resize", "size": 3}]}, "Resize: "),
        ({"Preprocess": None}, "expected a list Preprocess"),
        ({"output": "boxes"}, "export.nms true"),
        ({"Preprocess": [{"type": ["Resize"]}]}, "expected one of"),
        ({"Preprocess": []}, "must have Permute"),
        ({"Preprocess": [{"type": "Permute"}, {"type": "Permute"}]}, "must have Permute once"),
        ({"Preprocess": [{"type": "Permute"}, {"type": "Resize", "target_size": 32}]}, "must have Permute"),
        ({"label_list": 5}, "label_list is 5; expected a list of names"),
        ({"label_list": "abc"}, "label_list is 'abc'; expected a list of names"),
        ({"category_ids": ["a", "b"]}, "category_ids is .*; expected a list of numbers"),
        ({"category_ids": [1]}, "of different lengths"),
        ({"image_shape": [3, 10**6, 10**6], "use_dynamic_shape": False}, "it must be at most 268,435,456 pixels"),
    ],
)
def test_settings_that_do_not_fit(folder, tmp_path, change, message):
    settings = {**yaml.safe_load((folder / "infer_cfg.yml").read_text()), **change}
    for path in folder.glob("model.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump(settings))
    with pytest.raises(DeployError, match=message):
        Detector(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('label_list: ["\\U00110000"]', "before the end of line 1 is an escape of no character"),
        ("[" * 20_000, "nested too deeply"),
        ("\n".join(" " * level + "a:" for level in range(200)), "nested too deeply"),
        ("image_shape: " + "9" * 20_000, "has 20,000 characters, a number has at most 100"),
        ("a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)), "more than 100,000"),
        ("Preprocess: &a [*a]", "found undefined alias|inside its own anchor"),
        ("Preprocess: !!python/object:os.system {}", "the YAML tag .* is refused"),
        ("Preprocess: [", "YAML syntax"),
    ],
)
def test_settings_of_a_stranger_are_one_line(tmp_path, text, message):
    (tmp_path / "infer_cfg.yml").write_text(text)
    with pytest.raises(DeployError, match=message) as raised:
        read_infer_cfg(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path / 'infer_cfg.yml'}:") and "\n" not in str(raised.value)


def test_numbers_and_dates_of_settings_are_as_in_configurations(tmp_path):
    (tmp_path / "infer_cfg.yml").write_text("Preprocess: []\ndraw_threshold: 1e-1\nlabel_list: [2024-01-31, 7]\n")
    assert read_infer_cfg(tmp_path) == {"Preprocess": [], "draw_threshold": 0.1, "label_list": ["2024-01-31", 7]}


def test_missing_files(folder, tmp_path):
    with pytest.raises(DeployError, match=r"infer_cfg\.yml: no such file"):
        Detector(tmp_path)
    (tmp_path / "infer_cfg.yml").write_bytes((folder / "infer_cfg.yml").read_bytes())
    with pytest.raises(DeployError, match="no file for it"):
        Detector(tmp_path)
