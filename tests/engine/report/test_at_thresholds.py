"""Precision and recall at the thresholds of a file, against detections that are judged by hand."""

import json

import numpy as np
import pytest
from commands import call

from ppdet.engine.report.at_thresholds import counts_at, counts_table
from ppdet.metrics.coco_metric import COCOMetric

BOX = [10, 10, 30, 30]
OFF = [60, 60, 90, 90]


@pytest.fixture
def metric():
    """Two classes, three images. The ids of images and classes are in no order."""
    records = [
        {"im_id": np.array([9]), "gt_bbox": np.array([BOX]), "gt_class": np.array([[0]])},
        {"im_id": np.array([2]), "gt_bbox": np.array([BOX, OFF]), "gt_class": np.array([[0], [1]])},
        {
            "im_id": np.array([5]),
            "gt_bbox": np.array([BOX, OFF]),
            "gt_class": np.array([[0], [0]]),
            "is_crowd": np.array([0, 1]),
        },
    ]
    metric = COCOMetric(anno_path=None, category_ids=[7, 3], class_names=["red", "blue"], records=records)
    rows = [
        [0, 0.9, *BOX],  # right
        [0, 0.8, *BOX],  # found twice
        [0, 0.7, *BOX],  # right
        [0, 0.6, *OFF],  # a blue box
        [1, 0.3, *OFF],  # right
        [0, 0.5, *BOX],  # right
        [0, 0.95, *OFF],  # in a crowd: neither
    ]
    metric.update(np.array(rows), [2, 3, 2], [9, 2, 5])
    return metric


@pytest.mark.parametrize(
    ("thresholds", "red", "blue"),
    [
        (0.0, (3, 3, 2), (1, 1, 0)),
        (0.5, (3, 3, 2), (1, 0, 0)),  # a score of 0.5 is kept
        (np.array([0.65, 0.3]), (3, 2, 1), (1, 1, 0)),
        (np.array([0.99, 0.99]), (3, 0, 0), (1, 0, 0)),
    ],
)
def test_counts_of_boxes_correct_and_false_detections(metric, thresholds, red, blue):
    counts = counts_at(metric, thresholds)
    assert [(one.boxes, one.correct, one.false) for one in counts] == [red, blue]
    assert [one.threshold for one in counts] == np.broadcast_to(thresholds, 2).tolist()
    precision = [None if not sum(of[1:]) else of[1] / sum(of[1:]) for of in (red, blue)]
    assert [one.precision for one in counts] == precision
    assert [one.recall for one in counts] == [red[1] / 3, blue[1] / 1]


def test_without_boxes_and_detections():
    metric = COCOMetric(anno_path=None, category_ids=[1], class_names=["red"], records=[{"im_id": np.array([1])}])
    metric.update(np.empty((0, 6)), [0], [1])
    (one,) = counts_at(metric, 0.5)
    assert (one.precision, one.recall) == (None, None)
    assert counts_table([one]).splitlines()[1].split() == ["red", "0.50", "-", "-", "0", "0", "0"]


def test_the_command_prints_them(tiny, tmp_path):
    path = tiny.parent / "data" / "train.json"
    content = json.loads(path.read_text())
    red = [one for one in content["annotations"] if one["category_id"] == 3]
    found = [{key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.4} for one in red[:-1]]
    (tmp_path / "bbox.json").write_text(json.dumps(found))
    file = tmp_path / "thresholds.json"
    file.write_text('{"thresholds": {"red": 0.4}, "images": 8}')
    arguments = ("tools/eval.py", "-c", tiny, "--json_eval", "--output_eval", tmp_path, "--thresholds", file)
    rows = [line.split("] ")[-1].split() for line in call(*arguments).splitlines()]
    blue = len(content["annotations"]) - len(red)
    recall = f"{100 * (len(red) - 1) / len(red):.1f}"
    assert ["red", "0.40", "100.0", recall, f"{len(red) - 1}", "0", f"{len(red)}"] in rows
    assert ["blue", "0.50", "-", "0.0", "0", "0", f"{blue}"] in rows
    file.write_text("{}")
    assert 'expected {"thresholds"' in call(*arguments, code=2)
    assert "--thresholds needs the numbers" in call(*arguments, "--save_prediction_only", code=2)
