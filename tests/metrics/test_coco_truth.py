"""The annotations that detections are compared with: their ids, and how they end at their image."""

import json

import numpy as np
import pytest

from ppdet.metrics import COCOMetric, coco_backend
from ppdet.metrics.coco_truth import TRUTH, fit_to_images, load_ground_truth

IMAGES = [-(2**63) + 1, -1, 0, 7, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
CATEGORIES = [2**63 - 1, 2**62 + 1, 2**62 + 2, -5, 0]  # class 0, 1, …


@pytest.mark.parametrize("library", ["hotcoco", "pycocotools"])
def test_every_id_of_64_bits_is_itself(tmp_path, monkeypatch, library):
    monkeypatch.setattr(coco_backend, "evaluation_package", lambda: library)
    rng = np.random.default_rng(0)
    rows, annotations = {}, []
    for image in IMAGES:
        corners = rng.uniform(0, 50, (len(CATEGORIES), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 60, corners.shape)], axis=1)
        rows[image] = np.column_stack([np.arange(len(CATEGORIES)), np.full(len(CATEGORIES), 0.9), boxes])
        for category, (x1, y1, x2, y2) in zip(CATEGORIES, boxes.tolist()):
            annotations.append({"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": image} for image in IMAGES], "annotations": annotations}))

    def metric():
        return COCOMetric(anno_path=path, category_ids=CATEGORIES, class_names=list("abcde"))

    ours, read = metric(), metric()
    for image in IMAGES:
        ours.update(rows[image], [len(CATEGORIES)], [image])
    assert ours.compute()["AP"] == pytest.approx(1.0)
    assert [(row["AP"], row["boxes"]) for row in ours.classwise_results()] == [(pytest.approx(1.0), 8)] * 5
    ours.save(tmp_path / "bbox.json")
    results = json.loads((tmp_path / "bbox.json").read_text())
    assert [result["image_id"] for result in results] == [image for image in IMAGES for _ in CATEGORIES]
    assert [result["category_id"] for result in results] == CATEGORIES * len(IMAGES)
    read.extend_results(results, IMAGES)
    assert read.compute() == ours.compute()
    # One class taken for another one is wrong, however near their ids are.
    other = metric()
    for image in IMAGES:
        other.update(rows[image] * [0, 1, 1, 1, 1, 1] + [1, 0, 0, 0, 0, 0], [5], [image])
    assert [row["AP50"] > 0 for row in other.classwise_results()] == [False, True, False, False, False]


def test_boxes_end_at_their_image():
    boxes = [[10, 10, 20, 20], [90, 40, 20, 20], [90, 40, 20, 20], [-5, -5, 10, 10], [100, 5, 9, 9], [40, 40, 0, 0]]
    truth = np.zeros(len(boxes) + 1, dtype=TRUTH)
    truth["bbox"] = [*boxes, [90, 40, 20, 20]]
    truth["area"] = [400, 400, 17, 100, 81, 0, 400]
    truth["image_id"] = [5] * len(boxes) + [6]
    fitted, beyond, outside = fit_to_images(truth, {5: (50, 100)})
    assert (beyond, outside) == (4, 1)
    # The last one's image was not read; the one without area stays, and counts as missed, as in pycocotools.
    kept = [[10, 10, 20, 20], [90, 40, 10, 10], [90, 40, 10, 10], [0, 0, 5, 5], [40, 40, 0, 0], [90, 40, 20, 20]]
    assert fitted["bbox"].tolist() == kept
    # The area of a mask, which is not the box's, stays.
    assert fitted["area"].tolist() == [400, 100, 17, 25, 0, 400]
    assert truth["bbox"][1].tolist() == [90, 40, 20, 20], "the file's boxes are as they were"
    assert (fit_to_images(truth, {}).truth["bbox"] == truth["bbox"]).all()


def test_what_is_read_of_a_file(tmp_path):
    rows = [
        {"image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "1", "area": "7"},
        {"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "ignore": 1, "area": None},
        {"image_id": 4, "category_id": 2, "bbox": [1, 2, 3, 4]},
        {"image_id": 3, "category_id": 2, "bbox": [1, None, 3, 4]},
        {"image_id": 3, "category_id": 2, "bbox": None},
        {"image_id": 3, "category_id": 2},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [{"id": 3}], "annotations": rows}))
    images, truth = load_ground_truth(path)
    assert images == [3] and len(truth) == 2
    assert truth["category_id"].tolist() == [1, 2] and truth["iscrowd"].tolist() == [True, False]
    assert truth["area"].tolist() == [7, 12]
