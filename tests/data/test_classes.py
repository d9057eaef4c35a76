"""Classes of two files are the same when their names are, in whatever order they come."""

import json

import numpy as np
import pytest
from tiny import write_tiny_coco

from ppdet.data.classes import Classes, mismatch
from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.utils.formats.coco_file import clean_name

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [("cat", "cat"), ("  cat\t", "cat"), ("traffic light ", "traffic light"), ("cafe\u0301", "caf\u00e9"), (7, "7")],
)
def test_names_are_compared_without_blanks_and_composed(raw, clean):
    assert clean_name(raw) == clean


@pytest.mark.parametrize(
    ("names", "known", "parts"),
    [
        (["cat", "dog"], ["cat", "dog"], []),
        (["dog", "cat"], ["cat", "dog"], []),
        (["Cat", "dog"], ["cat", "dog"], ["only in val: 'Cat' (did you mean 'cat'?); only in train: 'cat'"]),
        (["cat"], ["cat", "dog"], ["only in val: nothing; only in train: 'dog'"]),
        (["cat", "dog", "bird"], ["cat", "dog"], ["only in val: 'bird'; only in train: nothing"]),
        (["a", "b", "a"], ["a", "a", "b"], ["several classes are called 'a'"]),
        (["a", "a", "b"], ["a", "a", "b"], []),
        (["a", "b"], ["a", "a", "b"], ["several classes are called 'a'"]),
        (["a", "a", "b"], ["a", "b", "b"], ["several classes are called"]),
        ([], ["cat"], ["only in val: nothing; only in train: 'cat'"]),
        ([f"x{i}" for i in range(90)], ["a"], ["'x7', and 82 more; only in train: 'a'"]),
        (["a\x1b[31m"], ["b"], [r"'a\x1b[31m'"]),
    ],
)
def test_what_differs_is_listed_from_both_sides(names, known, parts):
    text = mismatch(names, "val", Classes(known, list(range(len(known))), "train"))
    assert all(part in text for part in parts) and bool(text) == bool(parts)


@pytest.fixture
def dataset(tmp_path):
    write_tiny_coco(tmp_path)
    return COCODataSet(
        dataset_dir=str(tmp_path), image_dir="images", anno_path="train.json", data_fields=FIELDS, repeat=2
    )


def test_records_names_and_ids_move_together(dataset, tmp_path):
    content = json.loads((tmp_path / "train.json").read_text())
    category = {(a["image_id"], tuple(a["bbox"])): a["category_id"] for a in content["annotations"]}
    dataset.use_classes(["blue", "red"])
    assert (dataset.class_names, dataset.category_ids) == (["blue", "red"], [7, 3])
    boxes = 0
    for record in dataset.records:
        for (x1, y1, x2, y2), label in zip(record["gt_bbox"].tolist(), record["gt_class"].flatten().tolist()):
            assert category[int(record["im_id"].item()), (x1, y1, x2 - x1, y2 - y1)] == [7, 3][label]
            boxes += 1
        assert record["gt_class"].dtype == np.int32 and record["gt_class"].shape == (len(record["gt_bbox"]), 1)
    assert boxes == 2 * len(category), "with repeat, a record is one object that is renumbered once"


def test_an_order_of_three_is_not_turned_around():
    folder = ImageFolder()
    folder.class_names, folder.category_ids = ["a", "b", "c"], [10, 20, 30]
    folder.use_classes(["b", "c", "a"])  # a rotation is not its own inverse
    assert (folder.class_names, folder.category_ids) == (["b", "c", "a"], [20, 30, 10])


def test_records_follow_a_rotation(dataset):
    dataset.class_names, dataset.category_ids = ["red", "blue", "green"], [3, 7, 9]
    before = [record["gt_class"].copy() for record in dataset.records]
    dataset.use_classes(["blue", "green", "red"])
    for old, record in zip(before, dataset.records):
        assert np.array_equal(record["gt_class"], np.array([2, 0, 1])[old])


@pytest.mark.parametrize("names", [["red"], ["red", "green"], ["red", "blue", "blue"], ["red", "red"]])
def test_other_names_are_no_order(dataset, names):
    with pytest.raises(ValueError, match="each once"):
        dataset.use_classes(names)
    assert dataset.class_names == ["red", "blue"]


def test_blanks_in_files_are_no_part_of_names(tmp_path):
    write_tiny_coco(tmp_path)
    path = tmp_path / "train.json"
    path.write_text(path.read_text().replace('"red"', '" red "'))
    (tmp_path / "names.txt").write_text("red \n blue\n")
    assert ImageFolder(anno_path=str(path)).class_names == ["red", "blue"]
    assert ImageFolder(anno_path=str(tmp_path / "names.txt")).class_names == ["red", "blue"]
