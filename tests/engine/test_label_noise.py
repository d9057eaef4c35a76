"""Labels that detections contradict are found; sound ones, and doubts of an unsure detector, are not."""

import json
import shutil

import numpy as np
import pytest
from noise import noisy, write_padded
from tiny import write_tiny_coco

from ppdet.data.checking.listed_split import read_split
from ppdet.engine.label_noise import image_doubts, label_noise, noise_by_model
from ppdet.engine.predictor import Predictor
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
        (2, "red", [1, 1, 9, 9], 0.2),  # not certain
        (3, "red", AWAY, 0.1),
    ]
    assert noise(split, tmp_path, *detections) == [
        ("other class", ["blue 0.90 on a red"]),
        ("missing box", ["red 0.80, no box", "red 0.70, no box"]),
        ("no object", ["red, nothing detected"]),
    ]


def doubts(labels, detections):
    """Kinds and texts for labels (class, box) and detections (class, score, box); boxes are x1, y1, x2, y2."""
    boxes = np.array([box for _, box in labels], dtype=np.float64).reshape(-1, 4)
    rows = np.array([[label, score, *box] for label, score, box in detections], dtype=np.float64).reshape(-1, 6)
    found = image_doubts(boxes, np.array([label for label, _ in labels], dtype=int), rows, ["cat", "dog"])
    return [(one.kind, one.text, len(one.boxes)) for one in found]


def test_a_box_that_is_shifted_by_half_is_doubted_once_with_both_boxes():
    # Shifted by half of its width, a box has a third of the union in common with what it was.
    shifted = [("shifted box", "cat 0.90 has an IoU of 0.33 with the box", 2)]
    assert doubts([(0, [50, 0, 150, 100])], [(0, 0.9, [0, 0, 100, 100])]) == shifted
    # A doubtful detection says nothing about the place; but nothing has confirmed the box.
    assert doubts([(0, [50, 0, 150, 100])], [(0, 0.2, [0, 0, 100, 100])]) == [("no object", "cat, nothing detected", 1)]


def test_a_label_beside_another_object_is_judged_by_its_own_detection():
    left, right = [0, 0, 100, 100], [40, 0, 140, 100]  # their IoU is 60 / 140
    both = [(0, 0.9, left), (0, 0.8, right)]
    assert doubts([(0, left), (0, right)], both) == []
    assert doubts([(0, left)], both) == [("missing box", "cat 0.80, no box", 1)]
    # Two objects of two classes in one place: each detection confirms its own box.
    assert doubts([(0, left), (1, left)], [(0, 0.9, left), (1, 0.8, left)]) == []
    assert doubts([(0, left), (1, left)], [(0, 0.9, left)]) == [("no object", "dog, nothing detected", 1)]
    # A second detection on an object whose label is confirmed is the detector's error, not the label's.
    assert doubts([(0, left)], [(0, 0.9, left), (1, 0.6, left)]) == []


def test_a_faint_detection_does_not_confirm_a_box():
    box = [0, 0, 100, 100]
    assert doubts([(0, box)], [(0, 0.05, box)]) == [("no object", "cat, only 0.05 detected", 1)]
    assert doubts([(0, box)], [(0, 0.15, box)]) == []
    assert doubts([(0, box)], [(1, 0.9, box), (0, 0.2, box)]) == [("other class", "dog 0.90 on a cat", 1)]
    assert doubts([], [(0, 0.9, box)]) == [("missing box", "cat 0.90, no box", 1)]
    assert doubts([], []) == []


def test_what_lies_in_a_crowd_is_no_missing_box(split, tmp_path):
    split.content["annotations"] += [
        {"id": 9, "image_id": 2, "category_id": 3, "bbox": [60, 40, 68, 56], "iscrowd": 1},
        {"id": 10, "image_id": 1, "category_id": 3, "bbox": AWAY, "iscrowd": 0, "ignore": 1},
    ]
    detections = [(image, "red", AWAY, 0.9) for image in (1, 2, 3)]
    sound = [(1, "red", BOX, 0.9), (2, "blue", BOX, 0.9), (3, "red", BOX, 0.9)]
    assert noise(split, tmp_path, *detections, *sound) == [("missing box", ["red 0.90, no box"])]


def test_images_of_one_name_in_two_splits_are_told_apart_by_their_paths(split, tmp_path):
    other = write_tiny_coco(tmp_path / "other", images=3)
    shutil.copy(split.path, other / "val.json")
    splits = [split, read_split(str(other / "val.json"))]
    rows = [
        {"file_name": place, "image_id": 1, "category_id": 3, "category_name": "red", "bbox": box, "score": 0.9}
        for place, box in ((splits[0].files[0], BOX), (splits[1].files[0], BOX), (splits[1].files[0], AWAY))
    ]
    path = tmp_path / "bbox.json"
    path.write_text(json.dumps(rows))
    assert [one.text.partition(":")[0] for one in label_noise(splits, path)] == ["val"]


def test_a_model_says_the_same_as_the_file_of_its_detections(tmp_path):
    """With random weights; the file's classes are in another order than the model's, and one image is broken."""
    cfg = noisy(write_padded(tmp_path, images=3), ["TestReader.batch_size=2", "device=cpu"])
    folder = tmp_path / "data"
    content = json.loads((folder / "train.json").read_text())
    content["categories"].reverse()
    (folder / "turned.json").write_text(json.dumps(content))
    split = read_split(str(folder / "turned.json"))
    (folder / "images" / "002.png").write_bytes(b"no image")
    model = noise_by_model([split], cfg, split.files, lambda items, total: items)
    predictor, names = Predictor(cfg), ["red", "blue"]
    rows = [
        {"file_name": split.files[index], "category_name": names[int(label)], "category_id": 0, "score": score}
        | {"bbox": [x1, y1, x2 - x1, y2 - y1]}
        for index, rows in predictor.detect(split.files)
        for label, score, x1, y1, x2, y2 in rows.tolist()
    ]
    path = tmp_path / "bbox.json"
    path.write_text(json.dumps(rows))
    assert list(predictor.dataset.class_names) == names
    assert [one.text for one in model] == [one.text for one in label_noise([split], path)] != []
    for category in content["categories"]:
        category["name"] += "dish"
    (folder / "turned.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="name a model that was trained on such classes"):
        noise_by_model([read_split(str(folder / "turned.json"))], cfg, [], lambda items, total: items)


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
