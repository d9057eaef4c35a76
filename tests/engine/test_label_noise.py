"""Labels that detections contradict are found; sound ones, and doubts of an unsure detector, are not."""

import json

import pytest
from tiny import write_tiny_coco

from ppdet.data.checking.listed_split import read_split
from ppdet.engine.label_noise import label_noise
from ppdet.utils.errors import DataError


@pytest.fixture
def split(tmp_path):
    """Three images of one box each: a red one, a blue one, a red one."""
    folder = write_tiny_coco(tmp_path, images=3)
    content = json.loads((folder / "train.json").read_text())
    content["annotations"] = [
        {"id": i, "image_id": i, "category_id": category, "bbox": [20, 10, 40, 30], "iscrowd": 0}
        for i, category in ((1, 3), (2, 7), (3, 3))
    ]
    (folder / "train.json").write_text(json.dumps(content))
    return read_split(str(folder / "train.json"))


def noise(split, tmp_path, *detections, splits=None):
    """Findings for detections (image, class, box, score)."""
    rows = [
        {"file_name": f"{image:03d}.png", "image_id": 77, "category_name": name, "bbox": box, "score": score}
        | {"category_id": 99}
        for image, name, box, score in detections
    ]
    path = tmp_path / "bbox.json"
    path.write_text(json.dumps(rows))
    found = label_noise(splits or [split], path)
    return [(one.kind.removeprefix("label noise, "), [example.text for example in one.examples]) for one in found]


BOX, NEAR, AWAY = [20, 10, 40, 30], [22, 11, 40, 30], [80, 60, 30, 30]


def test_detections_that_agree_are_no_doubt(split, tmp_path):
    assert noise(split, tmp_path, (1, "red", NEAR, 0.9), (2, "blue", BOX, 0.3), (3, "red", BOX, 0.8)) == []


def test_each_kind(split, tmp_path):
    detections = [
        (1, "blue", NEAR, 0.9),
        (2, "blue", BOX, 0.9),
        (2, "red", AWAY, 0.7),
        (2, "red", [1, 60, 20, 20], 0.8),
        (2, "red", [1, 1, 9, 9], 0.4),  # not certain
        (3, "red", AWAY, 0.1),
    ]
    assert noise(split, tmp_path, *detections) == [
        ("other class", ["blue 0.90 on a red"]),
        ("missing box", ["red 0.80, no box", "red 0.70, no box"]),
        ("no object", ["red, nothing detected"]),
    ]


def test_images_that_the_detector_did_not_see_are_left_out(split, tmp_path):
    assert noise(split, tmp_path, (2, "blue", BOX, 0.9)) == []


def test_results_of_other_forms_are_refused(split, tmp_path):
    with pytest.raises(DataError, match=r"bbox.json: .* is not a COCO result of .*train.json"):
        noise(split, tmp_path, (2, "blue", None, 0.9))
    path = tmp_path / "bbox.json"
    path.write_text(json.dumps([{"image_id": 2, "category_id": 7, "bbox": AWAY, "score": 0.9}]))
    assert [one.kind for one in label_noise([split], path)] == ["label noise, missing box", "label noise, no object"]
    with pytest.raises(DataError, match="no file_name: name the one COCO file that they belong to"):
        label_noise([split, split], path)
