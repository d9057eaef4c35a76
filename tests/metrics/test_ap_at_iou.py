"""AP at one IoU threshold against pycocotools, and F-scores that are computed by hand."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_train_reader
from ppdet.engine.evaluator import Evaluator
from ppdet.metrics import APAtIoU, COCOMetric
from ppdet.metrics.eval_metric import EvaluatedImage, compute_own
from ppdet.utils.errors import ConfigError

BOX = [10.0, 10.0, 30.0, 30.0]
# Detections with an IoU of 0.5 and 1/3 with BOX.
HALF, THIRD = [10.0, 10.0, 20.0, 30.0], [20.0, 10.0, 40.0, 30.0]
FAR = [60.0, 60.0, 80.0, 80.0]


def image(number, detections, boxes, crowd=None):
    """`detections`: (class, score, box); `boxes`: (class, box)."""
    rows = np.array([[label, score, *box] for label, score, box in detections], float).reshape(-1, 6)
    annotated = np.array([box for _, box in boxes], float).reshape(-1, 4)
    is_crowd = np.array(crowd if crowd else [False] * len(boxes), bool)
    return EvaluatedImage(number, rows, annotated, np.array([label for label, _ in boxes], np.int64), is_crowd)


def numbers_of(metric, images, classes=("a", "b")):
    metric.begin(list(classes))
    for one in images:
        metric.update(one)
    return metric.result()


def random_images(rng, classes=3):
    """Images with boxes, crowds, and detections near them or anywhere, with ties in score."""
    found = []
    for number in rng.choice(1000, 7, replace=False).tolist():
        count = rng.integers(0, 6)
        boxes = rng.uniform(0, 40, (count, 2)).repeat(2, axis=0).reshape(-1, 4)
        boxes[:, 2:] += rng.uniform(5, 30, (count, 2))
        near = boxes.repeat(2, axis=0) + rng.normal(0, 4, (2 * count, 4))
        far = rng.uniform(0, 40, (4, 2)).repeat(2, axis=0).reshape(-1, 4)
        far[:, 2:] += 20, 15
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        labels = rng.integers(0, classes, count)
        rows = np.concatenate([near, far])
        row_labels = np.concatenate([labels.repeat(2), rng.integers(0, classes, 4)])
        scores = np.round(rng.random(len(rows)), 1)
        detections = list(zip(row_labels.tolist(), scores.tolist(), rows.tolist()))
        crowd = (rng.random(count) < 0.2).tolist()
        found.append(image(number, detections, list(zip(labels.tolist(), boxes.tolist())), crowd))
    return found


def ap_of_pycocotools(images, iou, classes=3):
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")

    def annotations(part):
        listed = []
        for one in images:
            for index, (x1, y1, x2, y2) in enumerate(one.boxes if part == "boxes" else one.detections[:, 2:]):
                entry = {"id": len(listed) + 1, "image_id": one.image_id, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                entry["area"] = (x2 - x1) * (y2 - y1)
                if part == "boxes":
                    entry |= {"category_id": int(one.classes[index]) + 1, "iscrowd": int(one.is_crowd[index])}
                else:
                    row = one.detections[index]
                    entry |= {"category_id": int(row[0]) + 1, "score": row[1], "iscrowd": 0}
                listed.append(entry)
        return listed

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = coco.COCO(), coco.COCO()
        for side, part in ((truth, "boxes"), (found, "detections")):
            side.dataset = {
                "images": [{"id": one.image_id} for one in images],
                "categories": [{"id": number + 1} for number in range(classes)],
                "annotations": annotations(part),
            }
            side.createIndex()
        evaluation = cocoeval.COCOeval(truth, found, "bbox")
        evaluation.params.iouThrs = np.array([iou])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, -1]
    return precision[precision > -1].mean() if (precision > -1).any() else float("nan")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), iou=st.sampled_from([0.33, 0.5, 0.75]))
def test_with_101_points_it_is_the_ap_of_pycocotools(seed, iou):
    images = random_images(np.random.default_rng(seed))
    found = numbers_of(APAtIoU(iou=iou, map_type="101point"), images, "abc")[f"AP@{iou}"]
    assert found == pytest.approx(ap_of_pycocotools(images, iou), abs=1e-9, nan_ok=True)


def test_the_numbers_do_not_depend_on_the_order_of_the_images():
    images = random_images(np.random.default_rng(4))
    for map_type in ("integral", "11point", "101point"):
        metric = APAtIoU(map_type=map_type)
        assert numbers_of(metric, images, "abc") == numbers_of(metric, images[::-1], "abc")


def four_images():
    """Of class a: 0.9 right, 0.8 wrong, 0.6 right, 0.2 wrong, and one of three boxes is missed; of b: 0.7 right."""
    return [
        image(1, [(0, 0.9, BOX), (1, 0.7, FAR)], [(0, BOX), (1, FAR)]),
        image(2, [(0, 0.8, FAR)], []),
        image(3, [(0, 0.2, BOX), (0, 0.6, HALF)], [(0, BOX)]),
        image(4, [], [(0, BOX)]),
    ]


@pytest.mark.parametrize(
    ("map_type", "of_a"),
    [
        # Precisions at the right detections: 1 of 1 and 2 of 3, for recalls of 1/3 and 2/3.
        ("integral", (1 + 2 / 3) / 3),
        ("11point", (4 * 1 + 3 * 2 / 3) / 11),
        ("101point", (34 * 1 + 33 * 2 / 3) / 101),
    ],
)
def test_ap_by_hand(map_type, of_a):
    numbers = numbers_of(APAtIoU(map_type=map_type), four_images())
    assert numbers["AP@0.5"] == pytest.approx((of_a + 1) / 2)


def test_the_f_score_is_that_of_the_best_threshold_for_all_classes_together():
    """From 0.6 on, 3 of 4 detections are right and 3 of 4 boxes are found; from 0.7 on 2 of 3, and 2 of 4."""
    numbers = numbers_of(APAtIoU(), four_images())
    assert numbers == {"AP@0.5": pytest.approx(7 / 9), "F@0.5": pytest.approx(3 / 4), "threshold@0.5": 0.4}


def test_a_detection_is_right_from_the_iou_on():
    for iou, is_right in ((0.33, True), (0.34, False)):
        numbers = numbers_of(APAtIoU(iou=iou), [image(1, [(0, 0.9, THIRD)], [(0, BOX)])])
        assert numbers[f"AP@{iou}"] == numbers[f"F@{iou}"] == is_right
    assert numbers_of(APAtIoU(), [image(1, [(0, 0.9, HALF)], [(0, BOX)])])["AP@0.5"] == 1
    assert numbers_of(APAtIoU(iou=1.0), [image(1, [(0, 0.9, BOX)], [(0, BOX)])])["AP@1"] == 1
    assert numbers_of(APAtIoU(), [image(1, [(1, 0.9, BOX)], [(0, BOX)])])["F@0.5"] == 0


def test_a_box_is_found_once_and_a_crowd_forgives():
    twice = image(1, [(0, 0.9, HALF), (0, 0.8, BOX), (0, 0.7, BOX)], [(0, BOX)])
    assert numbers_of(APAtIoU(), [twice])["F@0.5"] == 1  # at the threshold that keeps the first
    assert numbers_of(APAtIoU(map_type="integral"), [twice])["AP@0.5"] == 1
    detections = [(0, 0.9, FAR), (0, 0.5, FAR), (0, 0.3, BOX), (1, 0.8, FAR)]
    crowd = image(1, detections, [(0, [50.0, 50.0, 90.0, 90.0]), (0, BOX)], [True, False])
    numbers = numbers_of(APAtIoU(), [crowd])
    assert numbers["AP@0.5"] == 1 and numbers["F@0.5"] == pytest.approx(2 / 3)  # of b, one is wrong


def test_without_boxes_all_is_undefined_and_without_right_detections_the_threshold():
    records = [{"im_id": np.array([1]), "gt_bbox": np.zeros((0, 4)), "gt_class": np.zeros((0, 1), int)}]
    collected = COCOMetric(anno_path=None, category_ids=[1], class_names=["a"], records=records)
    collected.update(np.array([[0, 0.9, *BOX]]), [1], [1], [(100, 100)])
    undefined = compute_own(APAtIoU(), collected)
    assert set(undefined) == {"AP@0.5", "F@0.5", "threshold@0.5"} and np.isnan(list(undefined.values())).all()
    nothing = numbers_of(APAtIoU(), [image(1, [], [(0, BOX)])])
    assert nothing["AP@0.5"] == nothing["F@0.5"] == 0 and np.isnan(nothing["threshold@0.5"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"iou": 0}, "APAtIoU.iou is 0; it must be above 0 and at most 1"),
        ({"iou": 1.5}, "APAtIoU.iou is 1.5; it must be above 0 and at most 1"),
        ({"map_type": "area"}, "APAtIoU.map_type is 'area'; it must be one of integral, 11point, 101point"),
    ],
)
def test_parameters_out_of_range(options, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        APAtIoU(**options)


def test_an_evaluation_reports_the_numbers_beside_those_of_coco(tiny, caplog):
    options = ["eval_metrics=[{name: APAtIoU, iou: 0.33}, {name: APAtIoU, map_type: 101point}]"]
    evaluator = Evaluator(load_config(str(tiny), options))
    numbers = evaluator(Oracle(evaluator))
    assert numbers["AP@0.33"] == numbers["F@0.33"] == numbers["F@0.5"] == 1
    assert numbers["AP@0.5"] == pytest.approx(numbers["AP50"])
    assert "APAtIoU: AP@0.33 1, F@0.33 1, threshold@0.33 0.45" in caplog.text


def test_names_are_compared_before_a_run_starts(tiny, log):
    """A single evaluation chooses no best weights."""
    cfg = load_config(str(tiny), ["eval_metrics=[{name: APAtIoU, iou: 0.33}]", "best_by=AP@0.3"])
    for training, count in ((None, 0), (build_train_reader(cfg), 1)):
        Evaluator(cfg, training=training)
        assert log.text.count("best_by: no metric has the number 'AP@0.3':") == count
    with pytest.raises(ConfigError, match=r"APAtIoU gives numbers that another metric has: AP@0\.33, F@0\.33"):
        Evaluator(load_config(str(tiny), ["eval_metrics=[{name: APAtIoU, iou: 0.33}, {name: APAtIoU, iou: 0.33}]"]))
