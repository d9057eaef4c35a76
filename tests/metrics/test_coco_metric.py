"""COCOMetric against pycocotools' own COCOeval, called the way its documentation does."""

import contextlib
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools")
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ppdet.metrics import COCOMetric, coco_backend

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def reference(anno_path, results, image_ids):
    """The twelve numbers of pycocotools itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(anno_path))
        evaluation = COCOeval(truth, truth.loadRes([dict(r) for r in results]), "bbox")
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats)), evaluation.eval["precision"]


def write_annotations(path, images, annotations, categories):
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in images],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class{c}"} for c in categories],
    }
    path.write_text(json.dumps(content))
    return path


def random_case(rng, *, image_count=6, categories=(2, 7, 11), crowd=True):
    """Annotations and rows near them, with ties in score, crowds, duplicates and background."""
    images = sorted(rng.choice(1000, image_count, replace=False).tolist())
    annotations, rows_per_image = [], []
    for image_id in images:
        count = rng.integers(0, 8)
        corner = rng.uniform(0, 400, (count, 2))
        size = rng.uniform(1, 10, (count, 2)) ** rng.uniform(0.5, 2.2, (count, 1))
        classes = rng.integers(0, len(categories), count)
        for (x, y), (w, h), index in zip(corner.tolist(), size.tolist(), classes.tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": categories[index],
                    "bbox": [x, y, w, h],
                    "area": w * h * rng.uniform(0.5, 1.0),
                    "iscrowd": int(crowd and rng.random() < 0.1),
                }
            )
        near = np.repeat(np.concatenate([corner, corner + size], axis=1), 2, axis=0)
        near = near + rng.normal(0, 3, near.shape)
        far = rng.uniform(0, 200, (5, 4)).cumsum(axis=1)[:, [0, 1, 2, 3]]
        boxes = np.concatenate([near, far])
        labels = np.concatenate([np.repeat(classes, 2), rng.integers(0, len(categories), 5)])
        scores = np.round(rng.random(len(boxes)), 1)
        rows_per_image.append(np.concatenate([labels[:, None], scores[:, None], boxes], axis=1).astype(np.float32))
    return images, annotations, rows_per_image


def make_metric(path, categories, **kwargs):
    return COCOMetric(anno_path=path, category_ids=categories, class_names=[f"class{c}" for c in categories], **kwargs)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_same_numbers_as_pycocotools_on_random_boxes(tmp_path_factory, seed):
    categories = (2, 7, 11)
    images, annotations, rows = random_case(np.random.default_rng(seed), categories=categories)
    path = write_annotations(tmp_path_factory.mktemp("a") / "a.json", images, annotations, categories)
    metric = make_metric(path, categories)
    metric.update(np.concatenate(rows), [len(r) for r in rows], np.array(images)[:, None])

    expected, precision = reference(path, metric.results, images)
    actual = metric.compute()
    assert list(actual) == NAMES
    for name in NAMES:
        assert actual[name] == pytest.approx(expected[name], abs=1e-6), name
    for index, row in enumerate(metric.classwise_results()):
        per_class = precision[:, :, index, 0, 2]
        ap = per_class[per_class > -1].mean() if (per_class > -1).any() else -1
        ap50 = per_class[0].mean() if (per_class > -1).any() else -1
        assert (row["AP"], row["AP50"]) == pytest.approx((ap, ap50), abs=1e-6)


def test_without_hotcoco_pycocotools_evaluates(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    monkeypatch.setattr(coco_backend, "evaluation_package", lambda: "pycocotools")
    categories = (11, 2, 7, 5)
    images, annotations, rows = random_case(np.random.default_rng(0), image_count=20, categories=categories)
    path = write_annotations(tmp_path / "gt.json", images, annotations, categories)
    metric = make_metric(path, categories)
    metric.update(np.concatenate(rows), [len(r) for r in rows], images)
    expected, precision = reference(path, metric.results, images)
    assert metric.compute() == pytest.approx(expected, abs=1e-12)
    for row in metric.classwise_results():
        position = sorted(categories).index(categories[int(metric.class_names.index(row["name"]))])
        of_class = precision[:, :, position, 0, 2]
        assert row["AP"] == pytest.approx(of_class[of_class > -1].mean(), abs=1e-12)


def test_same_numbers_as_pycocotools_on_blood_cells(shared):
    path = shared / "data" / "bccd" / "annotations" / "val.json"
    content = json.loads(path.read_text())
    categories = [c["id"] for c in content["categories"]]
    metric = COCOMetric(
        anno_path=path,
        category_ids=categories,
        class_names=[c["name"] for c in content["categories"]],
    )
    rng = np.random.default_rng(0)
    for image in content["images"]:
        boxes = [a for a in content["annotations"] if a["image_id"] == image["id"] and rng.random() < 0.8]
        rows = np.zeros((len(boxes), 6), np.float32)
        for row, a in zip(rows, boxes):
            x, y, w, h = a["bbox"]
            row[:] = [categories.index(a["category_id"]), rng.random(), x, y, x + w, y + h]
            row[2:] += rng.normal(0, 6, 4)
        metric.update(rows, [len(rows)], [image["id"]])
    expected, _ = reference(path, metric.results, metric.image_ids)
    assert 0.1 < expected["AP"] < 0.9
    assert metric.compute() == pytest.approx(expected, abs=1e-6)


def test_result_dictionaries_are_coco_results(tmp_path):
    path = write_annotations(tmp_path / "a.json", [5], [], [3, 9])
    metric = make_metric(path, [3, 9])
    metric.update(np.array([[1, 0.5, 10, 20, 40, 60]], np.float32), [1], [5])
    entry = {"image_id": 5, "category_id": 9, "category_name": "class9", "bbox": [10.0, 20.0, 30.0, 40.0], "score": 0.5}
    assert metric.results == [entry]
    metric.save(tmp_path / "out" / "bbox.json")
    assert json.loads((tmp_path / "out" / "bbox.json").read_text()) == metric.results


def box(number, image_id, category_id, bbox, **more):
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": bbox, **more}


def test_perfect_detections_of_a_file_without_area_and_with_ids_from_zero(tmp_path):
    annotations = [
        box(0, 1, 1, [10, 10, 50, 50]),
        box(0, 2, 1, [30, 30, 20, 20]),
        box(5, 2, 2, [0, 0, 200, 200]),
    ]
    path = write_annotations(tmp_path / "a.json", [1, 2], annotations, [1, 2])
    metric = make_metric(path, [1, 2])
    rows = np.array([[0, 0.9, 10, 10, 60, 60], [0, 0.8, 30, 30, 50, 50], [1, 0.7, 0, 0, 200, 200]])
    metric.update(rows, [1, 2], [1, 2])
    assert list(metric.compute().values()) == pytest.approx([1.0] * 12)


def test_class_order_may_differ_from_category_order(tmp_path):
    annotations = [box(1, 1, 9, [10, 10, 50, 50]), box(2, 1, 3, [100, 100, 50, 50])]
    path = write_annotations(tmp_path / "a.json", [1], annotations, [3, 9])
    metric = make_metric(path, [9, 3])
    metric.update(np.array([[0, 0.9, 10, 10, 60, 60]]), [1], [1])
    rows = {row["name"]: row["AP50"] for row in metric.classwise_results()}
    assert rows == pytest.approx({"class9": 1.0, "class3": 0.0})


def test_zero_size_box_counts_as_missed(tmp_path):
    annotations = [box(1, 1, 1, [10, 10, 50, 50]), box(2, 1, 1, [30, 30, 0, 0])]
    path = write_annotations(tmp_path / "a.json", [1], annotations, [1])
    metric = make_metric(path, [1])
    metric.update(np.array([[0, 0.9, 10, 10, 60, 60]]), [1], [1])
    assert metric.compute()["AR100"] == pytest.approx(0.5)


def test_no_detections_give_zero(tmp_path):
    path = write_annotations(tmp_path / "a.json", [1, 2], [box(1, 1, 1, [0, 0, 50, 50])], [1, 2])
    metric = make_metric(path, [1, 2])
    metric.update(np.zeros((0, 6), np.float32), [0, 0], [1, 2])
    numbers = metric.compute()
    assert numbers["AP"] == numbers["AP50"] == numbers["AR100"] == numbers["APm"] == 0.0
    assert numbers["APl"] == -1.0, "no large box: undefined, as in pycocotools"
    assert "= 0.000" in metric.table()
    assert [r["AP"] for r in metric.classwise_results()] == [0.0, -1.0]
    lines = [line.split() for line in metric.classwise_table().splitlines()[1:]]
    assert [line[1:] for line in lines] == [["0.0", "0.0", "1"], ["-", "-", "0"]]


@pytest.mark.parametrize("with_key", [True, False])
def test_no_annotations_are_undefined(tmp_path, with_key):
    path = write_annotations(tmp_path / "a.json", [1], [], [1])
    if not with_key:
        content = json.loads(path.read_text())
        del content["annotations"]
        path.write_text(json.dumps(content))
    metric = make_metric(path, [1])
    metric.update(np.array([[0, 0.9, 10, 10, 60, 60]]), [1], [1])
    assert set(metric.compute().values()) == {-1.0}


def test_nothing_evaluated_is_undefined(tmp_path):
    path = write_annotations(tmp_path / "a.json", [1], [box(1, 1, 1, [0, 0, 50, 50])], [1])
    assert set(make_metric(path, [1]).compute().values()) == {-1.0}


def test_only_evaluated_images_count(tmp_path):
    annotations = [box(1, 1, 1, [10, 10, 50, 50]), box(2, 2, 1, [10, 10, 50, 50])]
    path = write_annotations(tmp_path / "a.json", [1, 2], annotations, [1])
    metric = make_metric(path, [1])
    metric.update(np.array([[0, 0.9, 10, 10, 60, 60]]), [1], [1])
    assert metric.compute()["AR100"] == 1.0
    metric.update(np.zeros((0, 6)), [0], [2])
    assert metric.compute()["AR100"] == 0.5


def test_ranks_merge_and_an_image_counts_once(tmp_path):
    rng = np.random.default_rng(3)
    images, annotations, rows = random_case(rng)
    path = write_annotations(tmp_path / "a.json", images, annotations, [2, 7, 11])
    whole, rank0, rank1 = (make_metric(path, [2, 7, 11]) for _ in range(3))
    for image_id, image_rows in zip(images, rows):
        whole.update(image_rows, [len(image_rows)], [image_id])
    for position, (image_id, image_rows) in enumerate(zip(images, rows)):
        (rank0, rank1)[position % 2].update(image_rows, [len(image_rows)], [image_id])
    rank1.update(rows[0], [len(rows[0])], [images[0]])  # a padded shard repeats an image
    rank0.extend(rank1.detections, rank1.image_ids)
    assert sorted(rank0.image_ids) == images
    assert len(rank0.results) == len(whole.results)
    assert rank0.compute() == pytest.approx(whole.compute(), abs=1e-9)


def test_an_image_that_comes_twice_in_a_batch_counts_once(tmp_path):
    path = write_annotations(tmp_path / "a.json", [4, 9], [box(1, 4, 1, [10, 10, 50, 50])], [1])
    metric = make_metric(path, [1])
    rows = np.array([[0, 0.9, 1, 2, 3, 4], [0, 0.8, 10, 10, 60, 60], [0, 0.7, 5, 6, 7, 8]])
    metric.update(rows, [1, 1, 1], [9, 4, 9])
    assert metric.detections[["image_id", "category_id", "score"]].tolist() == [(9, 1, 0.9), (4, 1, 0.8)]
    assert metric.detections["bbox"].tolist() == [[1, 2, 2, 2], [10, 10, 50, 50]]
    assert metric.image_ids == [9, 4]


def test_results_of_a_file_are_detections(tmp_path):
    rng = np.random.default_rng(4)
    images, annotations, rows = random_case(rng)
    path = write_annotations(tmp_path / "a.json", images, annotations, [2, 7, 11])
    ours, read = make_metric(path, [2, 7, 11]), make_metric(path, [2, 7, 11])
    ours.update(np.concatenate(rows), [len(r) for r in rows], images)
    ours.save(tmp_path / "bbox.json")
    stranger = {"image_id": max(images) + 1, "category_id": 2, "bbox": [0, 0, 1, 1], "score": 1.0}
    read.extend_results([*json.loads((tmp_path / "bbox.json").read_text()), stranger], images)
    assert np.array_equal(read.detections, ours.detections)
    assert read.compute() == ours.compute()
    with pytest.raises(ValueError):
        read.extend_results([{**stranger, "bbox": [0, 0, 1]}], [stranger["image_id"]])


def test_padding_and_nan_rows_are_left_out(tmp_path, capsys):
    path = write_annotations(tmp_path / "a.json", [1], [box(1, 1, 1, [10, 10, 50, 50])], [1])
    metric = make_metric(path, [1])
    rows = [[0, 0.9, 10, 10, 60, 60], [0, np.nan, 0, 0, 1, 1], [0, 0.9, 0, np.inf, 1, 1], [-1, 0, 0, 0, 0, 0]]
    metric.update(np.array(rows), [4], [1])
    assert metric.compute()["AR1"] == 1.0 and len(metric.results) == 1
    assert "2 detections with NaN or infinity" in capsys.readouterr().err


def test_table_has_the_familiar_lines_and_the_classes(tmp_path):
    path = write_annotations(tmp_path / "a.json", [1], [box(1, 1, 4, [10, 10, 50, 50])], [4])
    metric = make_metric(path, [4], classwise=True)
    metric.update(np.array([[0, 0.9, 10, 10, 60, 60]]), [1], [1])
    table = metric.table()
    assert "computed by hotcoco" in table
    assert " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000" in table
    assert " Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = -1.000" in table
    assert table.splitlines()[-1].split() == ["class4", "100.0", "100.0", "1"]
    assert len(table.splitlines()) == 1 + 12 + 2


def test_nothing_on_stdout(tmp_path, capfd):
    path = write_annotations(tmp_path / "a.json", [1], [box(1, 1, 4, [10, 10, 50, 50])], [4])
    metric = make_metric(path, [4])
    metric.update(np.array([[0, 0.9, 10, 10, 60, 60]]), [1], [1])
    metric.compute()
    assert capfd.readouterr() == ("", "")


def error_line(call):
    with pytest.raises((ValueError, OSError, ImportError)) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_errors_are_one_line_and_name_the_file(tmp_path):
    missing = tmp_path / "none.json"
    assert str(missing) in error_line(lambda: make_metric(missing, [1]))
    bad = tmp_path / "bad.json"
    for text in ["{", "[1, 2]", '{"images": 3}', '{"images": [{"id": 1}], "annotations": [{"image_id": 1}]}']:
        bad.write_text(text)
        assert str(bad) in error_line(lambda: make_metric(bad, [1]))
    assert str(tmp_path) in error_line(lambda: make_metric(tmp_path, [1]))


def test_misuse_is_an_error_in_one_line(tmp_path):
    path = write_annotations(tmp_path / "a.json", [1], [], [1])
    metric = make_metric(path, [1])
    for label in (1, -2):  # NumPy would take -2 for the last class but one
        rows = np.array([[label, 0.9, 0, 0, 1, 1]])
        assert "num_classes" in error_line(lambda rows=rows: metric.update(rows, [1], [1]))
    assert "rows (M, 6)" in error_line(lambda: metric.update(np.zeros((2, 6)), [1], [1]))
    assert "rows (M, 6)" in error_line(lambda: metric.update(np.zeros((2, 5)), [2], [1]))
    assert "class_names" in error_line(lambda: COCOMetric(anno_path=path, category_ids=[1], class_names=["a", "b"]))
    metric.update(np.zeros((0, 6)), [0], [77])
    assert "image id 77" in error_line(metric.compute)


def test_import_is_light():
    code = (
        "import sys, ppdet.metrics;print([m for m in ('pycocotools', 'hotcoco', 'paddle', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stderr
