"""Entries of COCO files as other tools write them: read rightly, or refused in one line that names the entry."""

import contextlib
import io
import json

import numpy as np
import pytest

from ppdet.data.sources import COCODataSet, SemiCOCODataSet
from ppdet.data.splitting.split import split_annotations
from ppdet.metrics import COCOMetric
from ppdet.utils.errors import DataError

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]


@pytest.fixture
def file(tmp_path):
    """Writes a file of two images, two classes and a box of each, changed by a function; returns its path."""

    def write(change=lambda content: None):
        images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (1, 2)]
        boxes = [{"id": i, "image_id": i, "category_id": i, "bbox": [10, 10, 20, 15], "iscrowd": 0} for i in (1, 2)]
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        change(content)
        path = tmp_path / "annotations" / "train.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    return write


def dataset(path, **options):
    return COCODataSet(image_dir=str(path.parent), anno_path=str(path), data_fields=FIELDS, **options)


def metric(path):
    return COCOMetric(anno_path=path, category_ids=[1, 2], class_names=["cat", "dog"])


def error(path, read=dataset):
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 and "train.json" in str(caught.value)
    return str(caught.value)


def set_first(key, field, value):
    def change(content):
        content[key][0][field] = value

    return change


@pytest.mark.parametrize(
    ("value", "crowd"), [(0, 0), (1, 1), (False, 0), (True, 1), ("0", 0), ("1", 1), (0.0, 0), (1.0, 1)]
)
def test_iscrowd_is_read_alike_by_training_evaluation_and_split(file, value, crowd):
    path = file(set_first("annotations", "iscrowd", value))
    assert [len(r["gt_bbox"]) for r in dataset(path, allow_empty=True).records] == [1 - crowd, 1]
    assert dataset(path, load_crowd=True).records[0]["is_crowd"].tolist() == [[crowd]]
    judged = metric(path)
    judged.update(np.zeros((0, 6)), [0, 0], [1, 2])
    assert [row["boxes"] for row in judged.classwise_results()] == [1 - crowd, 1]
    split = split_annotations(path, images=1)[0]
    assert split.labeled.boxes + split.unlabeled.boxes == 2 - crowd


@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
@pytest.mark.parametrize("value", [2, -1, "", "true", "2", None, [0], {}, 0.5, float("nan")])
def test_flags_that_say_neither_yes_nor_no_name_the_annotation(file, key, value):
    path = file(lambda content: content["annotations"][1].update({key: value}))
    for read in (dataset, metric):
        assert f"{key} of annotation 1 is " in error(path, read)


def test_boxes_marked_ignore_are_no_targets(file, log):
    path = file(set_first("annotations", "ignore", 1))
    for load_crowd in (False, True):
        records = dataset(path, allow_empty=True, load_crowd=load_crowd).records
        assert [len(r["gt_bbox"]) for r in records] == [0, 1]
    assert "1 box, left out 1 marked ignore" in log.text
    assert "marked" not in log.text.replace("marked ignore", "")


def test_evaluation_looks_at_ignore_as_pycocotools_does(file):
    """Not at all: its evaluation sets it to what iscrowd says."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def change(content):
        for number, (ignore, crowd) in enumerate([(1, 0), (0, 1), (1, 1), (0, 0)]):
            entry = {"image_id": 1, "category_id": 1, "ignore": ignore, "iscrowd": crowd, "area": 300}
            content["annotations"].append({**entry, "id": 10 + number, "bbox": [30 * number, 5, 20, 15]})
        for row in content["annotations"]:
            row["area"] = 300

    path = file(change)
    judged = COCOMetric(anno_path=path, category_ids=[1, 2], class_names=["cat", "dog"])
    rows = [[0, 0.9, 0, 5, 20, 20], [0, 0.8, 30, 5, 50, 20], [0, 0.7, 31, 5, 51, 20], [0, 0.6, 300, 5, 320, 20]]
    judged.update(np.array(rows, dtype=np.float64), [4, 0], [1, 2])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(judged.results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0.1 < evaluation.stats[0] < 0.9
    assert list(judged.compute().values()) == pytest.approx(list(evaluation.stats), abs=1e-6)


def test_crowd_boxes_are_counted_and_the_advice_is_load_crowd(file, log):
    path = file(lambda content: [row.update(iscrowd=1) for row in content["annotations"]])
    message = error(path)
    assert "left out 2 marked iscrowd, which load_crowd: true would keep" in message and "allow_empty" not in message
    dataset(file(set_first("annotations", "iscrowd", 1)))
    assert "1 box, left out 1 marked iscrowd" in log.text


@pytest.mark.parametrize("key", ["images", "categories"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**63, "is 9223372036854775808, expected an integer of at most 64 bits"),
        (-(2**63), "of at most 64 bits"),
        (10**20, "of at most 64 bits"),
        (10**400, "of at most 64 bits"),
        ("7", "is '7', expected an integer"),
        (1.5, "is 1.5, expected an integer"),
        (1e30, "is 1e+30, expected an integer"),
        (float("nan"), "is nan, expected an integer"),
        (True, "is True, expected an integer"),
        (None, "is None, expected an integer"),
        ([1], r"is [1], expected an integer"),
    ],
)
def test_ids_that_are_no_whole_numbers_of_64_bits(file, key, value, message):
    path = file(set_first(key, "id", value))
    kind = {"images": "image", "categories": "category"}[key]
    assert f"id of {kind} 0 {message}" in error(path) or message in error(path)
    assert f"id of {kind} 0 " in error(path, split_one)


def split_one(path):
    split_annotations(path, images=1)


@pytest.mark.parametrize("field", ["image_id", "category_id"])
@pytest.mark.parametrize("value", [2**63, "1", 1.5, None, True])
def test_ids_of_annotations(file, field, value):
    path = file(set_first("annotations", field, value))
    for read in (dataset, metric, split_one):
        assert f"{field} of annotation 0 is " in error(path, read)


def test_whole_numbers_with_a_point_are_ids(file):
    path = file(lambda content: [row.update(image_id=float(row["image_id"])) for row in content["annotations"]])
    assert [len(r["gt_bbox"]) for r in dataset(path).records] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["images"][1].pop("width"), "is not COCO: image 1 has no 'width'"),
        (lambda content: content["images"][1].pop("height"), "is not COCO: image 1 has no 'height'"),
        (lambda content: content["images"][0].pop("file_name"), "image 0 has no 'file_name'"),
        (set_first("images", "width", None), "its width is None"),
        (set_first("images", "width", "wide"), "its width is 'wide'"),
        (set_first("images", "width", True), "its width is True"),
        (set_first("images", "height", 0), "1.png has no size: its height is 0"),
        (set_first("images", "height", -3), "its height is -3"),
        (set_first("images", "height", [48]), "its height is [48]"),
        (set_first("images", "height", 10**400), "its height is 1000"),
        (set_first("images", "file_name", None), "file_name of image 0 is None"),
        (set_first("images", "file_name", 7), "file_name of image 0 is 7"),
        (set_first("images", "file_name", "a\0.jpg"), "file_name of image 0 is 'a\\x00.jpg'"),
        (set_first("images", "file_name", "\ud800.jpg"), "file_name of image 0 is '\\ud800.jpg'"),
        (lambda content: content["images"].append(content["images"][0]), "two images have the same id, 1"),
        (set_first("categories", "name", None), "name of category 0 is None, expected a text"),
        (set_first("categories", "name", ["cat"]), "name of category 0 is ['cat'], expected a text"),
        (lambda content: content["categories"][0].pop("name"), "category 0 has no 'name'"),
        (
            set_first("annotations", "bbox", "1,2,3,4"),
            "annotation 0 has bbox '1,2,3,4', expected [x, y, width, height]",
        ),
        (set_first("annotations", "bbox", "1234"), "annotation 0 has bbox '1234', expected"),
        (set_first("annotations", "bbox", [5]), "annotation 0 has bbox [5], expected"),
        (set_first("annotations", "bbox", [[1, 2], [3, 4]]), "annotation 0 has bbox [[1, 2], [3, 4]], expected"),
        (set_first("annotations", "bbox", {"x": 1, "y": 2, "w": 3, "h": 4}), "annotation 0 has bbox {'x': 1"),
        (set_first("annotations", "bbox", [1, 2, "wide", 4]), "where one is not a number"),
        (set_first("annotations", "bbox", [1, 2, 10**400, 4]), "where one is not a number"),
    ],
)
def test_what_is_not_coco_is_named(file, change, message):
    assert message in error(file(change))


def test_all_boxes_as_corner_pairs_are_not_taken_for_x_y_width_height(file):
    path = file(lambda content: [row.update(bbox=[[1, 2], [3, 4]]) for row in content["annotations"]])
    for read in (dataset, metric):
        assert "annotation 0 has bbox [[1, 2], [3, 4]]" in error(path, read)


@pytest.mark.parametrize(
    "bbox", [None, [], [None, 1, 2, 3], [float("nan"), 1, 2, 3], [1, 1, float("inf"), 3], "missing"]
)
def test_boxes_that_are_null_or_missing_are_left_out_and_counted(file, bbox, log):
    def change(content):
        if bbox == "missing":
            del content["annotations"][0]["bbox"]
        else:
            content["annotations"][0]["bbox"] = bbox

    path = file(change)
    assert [len(r["gt_bbox"]) for r in dataset(path, allow_empty=True).records] == [0, 1]
    assert "1 box, dropped 1 " in log.text
    judged = metric(path)
    judged.update(np.array([[1, 0.9, 10, 10, 30, 25]]), [0, 1], [1, 2])
    assert judged.compute()["AP"] == pytest.approx(1)


def test_numbers_as_texts_are_numbers(file):
    path = file(set_first("annotations", "bbox", ["10", "10", "20", "15"]))
    assert dataset(path).records[0]["gt_bbox"].tolist() == [[10, 10, 30, 25]]


def test_a_crowd_without_a_box_is_left_out_with_the_crowds(file):
    mask = {"counts": [0, 5], "size": [48, 64]}

    def change(content):
        content["annotations"][0] = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 1, "segmentation": mask}

    path = file(change)
    assert [len(r["gt_bbox"]) for r in dataset(path, allow_empty=True).records] == [0, 1]
    judged = metric(path)
    judged.update(np.array([[1, 0.9, 10, 10, 30, 25]]), [0, 1], [1, 2])
    assert judged.compute()["AP"] == pytest.approx(1)


@pytest.mark.parametrize("field", ["keypoints", "segments_info", "segmentation", "caption"])
def test_annotations_of_other_tasks_say_what_they_have(file, field):
    def change(content):
        for row in content["annotations"]:
            del row["bbox"]
            row[field] = [1, 2, 2]

    path = file(change)
    for read in (dataset, metric):
        assert f"has no boxes: its annotations have {field}, but no bbox" in error(path, read)
    # Without labels, they are not read.
    unlabeled = SemiCOCODataSet(image_dir=str(path.parent), anno_path=str(path), supervised=False)
    assert len(unlabeled) == 2


def test_names_that_are_numbers_are_texts(file):
    assert dataset(file(set_first("categories", "name", 5))).class_names == ["5", "dog"]


def test_paths_of_windows_are_found(file):
    path = file(set_first("images", "file_name", "sub\\1.png"))
    expected = path.parent / "sub" / "1.png"
    assert dataset(path).records[0]["im_file"] == str(expected)
    (path.parent / "sub\\1.png").write_bytes(b"")  # a name that has a backslash
    assert dataset(path).records[0]["im_file"] == str(path.parent / "sub\\1.png")


def test_absolute_paths_stay(file):
    path = file(set_first("images", "file_name", "/data/1.png"))
    assert dataset(path).records[0]["im_file"] == "/data/1.png"


def test_images_that_name_one_file_are_told(file):
    (text,) = dataset(file(set_first("images", "file_name", "2.png"))).findings
    assert "1 images name a file that another image names too, e.g. ids 1 and 2 both " in text
    assert not dataset(file()).findings
