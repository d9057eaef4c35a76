"""User-defined metrics: their arguments and results."""

import numpy as np
import pytest

from ppdet.metrics import COCOMetric, EvalMetric
from ppdet.metrics.eval_metric import check_number_names, compute_own
from ppdet.utils.errors import ConfigError


def record(image, boxes, classes, crowd=None):
    fields = {
        "im_id": np.array([image], np.int64),
        "im_file": f"{image}.jpg",
        "gt_bbox": np.array(boxes, np.float32).reshape(-1, 4),
        "gt_class": np.array(classes, np.int32).reshape(-1, 1),
    }
    return {**fields, **({"is_crowd": np.array(crowd, np.int32).reshape(-1, 1)} if crowd else {})}


def collected(records, rows_by_image, **options):
    metric = COCOMetric(anno_path=None, category_ids=[7, 3], class_names=["cat", "dog"], records=records, **options)
    for image, rows in rows_by_image.items():
        metric.update(np.array(rows, float), [len(rows)], [image], [(100, 120)])
    return metric


class Recall(EvalMetric):
    """A metric that records its arguments."""

    def begin(self, class_names):
        self.class_names, self.images = class_names, []

    def update(self, image):
        self.images.append(image)

    def result(self):
        return {"images": len(self.images), "undefined": float("nan"), "infinite": -np.inf, "negative": -3}


def test_a_metric_gets_each_image_with_its_detections_and_boxes():
    records = [record(5, [[10, 10, 30, 40], [50, 60, 130, 90]], [1, 0], crowd=[0, 1]), record(4, [], [])]
    found = collected(records, {4: [], 5: [[1, 0.9, 11, 10, 30, 41], [0, 0.4, 0, 0, 9, 9]]})
    metric = Recall()
    numbers = compute_own(metric, found)
    assert np.isnan([numbers.pop("undefined"), numbers.pop("infinite")]).all()
    assert numbers == {"images": 2, "negative": -3}
    assert metric.class_names == ["cat", "dog"]
    empty, image = metric.images
    assert (empty.image_id, empty.detections.shape, empty.boxes.shape) == (4, (0, 6), (0, 4))
    assert image.image_id == 5
    np.testing.assert_array_equal(image.detections, [[1, 0.9, 11, 10, 30, 41], [0, 0.4, 0, 0, 9, 9]])
    # The image is 120 pixels wide.
    np.testing.assert_array_equal(image.boxes, [[10, 10, 30, 40], [50, 60, 120, 90]])
    assert image.classes.tolist() == [1, 0] and image.is_crowd.tolist() == [False, True]


def test_without_a_file_the_boxes_of_the_records_are_evaluated():
    """One of two boxes is detected: AP is about half a perfect detector's; pycocotools counts 51 of 101 recalls."""
    records = [record(1, [[10, 10, 30, 40], [50, 60, 90, 90]], [0, 0])]
    assert collected(records, {1: [[0, 0.9, 10, 10, 30, 40]]}).compute()["AP"] == pytest.approx(51 / 101)
    assert collected(records, {1: [[0, 0.9, 10, 10, 30, 40], [0, 0.8, 50, 60, 90, 90]]}).compute()["AP"] == 1.0


@pytest.mark.parametrize("result", [None, 0.5, {"recall": "high"}, {1: 2.0}])
def test_what_is_no_mapping_of_names_to_numbers(result):
    class Wrong(Recall):
        def result(self):
            return result

    with pytest.raises(ConfigError, match=r"^eval_metrics: Wrong.result\(\) returned .*; expected numbers by name"):
        compute_own(Wrong(), collected([record(1, [], [])], {1: []}))


@pytest.mark.parametrize(
    ("names", "best_by", "told"),
    [
        ([["found"]], "found", ""),
        ([["found"]], "student_found", ""),
        ([["found"], None], "lost", ""),  # it may be a number of the second metric
        ([["lost"]], None, ""),
        (
            [["found"]],
            "fuond",
            "best_by: no metric has the number 'fuond': the first evaluation will end the run",
        ),
        ([], "AP_50", "unless a hook adds it; did you mean 'AP50'?"),
    ],
)
def test_a_wrong_best_by_is_told_before_an_evaluation(names, best_by, told, log):
    check_number_names([recall(known) for known in names], best_by)
    assert (told in log.text) if told else not log.records


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([["found"], ["lost", "found"]], "eval_metrics: Recall gives numbers that another metric has: found"),
        ([["AP"]], "eval_metrics: Recall gives numbers that another metric has: AP"),
        (["found"], "eval_metrics: Recall.number_names is 'found'; expected a list of names"),
    ],
)
def test_names_that_cannot_be(names, message):
    with pytest.raises(ConfigError, match=f"^{message}$"):
        check_number_names([recall(known) for known in names], None)


def recall(number_names):
    metric = Recall()
    metric.number_names = number_names
    return metric
