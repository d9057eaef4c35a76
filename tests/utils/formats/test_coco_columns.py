"""Columns of regular files, and of all others: what a file holds does not depend on how it is parsed."""

import json

import numpy as np
import pytest

from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.deploy.results import coco_image_ids
from ppdet.engine.proposal import found_data
from ppdet.utils.errors import DataError
from ppdet.utils.formats import coco_cache, coco_file
from ppdet.utils.formats.coco_columns import AnnotationColumns, read_columns

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]
NAN, INFINITY = float("nan"), float("inf")
MISSING = "the field is missing"
ODD_IDS = [
    2.0,
    2.5,
    "2",
    True,
    None,
    MISSING,
    2**63 - 1,
    2**63,
    -(2**63),
    1 - 2**63,
    2**53 + 1,
    2**64,
    1e30,
    NAN,
    [],
    1,
]
ODD_NUMBERS = [0, -1, 0.5, 64, 64.4, "64", True, None, MISSING, 1e9, 2e9, 10**400, NAN, INFINITY, [64], 2**24 + 1]
ODD_FLAGS = [0, 1, 2, 0.0, 1.0, "0", "1", "2", True, False, None, MISSING]
ODD_NAMES = ["a\0b", "", "é.png", "图.png", "\ud800.png", "\udcff.png", "a\\b.png", 3, None, MISSING, "1.png"]
ODD_BOXES = [
    *(
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [],
        {},
        "1, 2, 3, 4",
        7,
        None,
        MISSING,
        [1, 2, None, 4],
        [1, 2, NAN, 4],
        [1, 2, 3, "4"],
    ),
    *([1, 2, True, 4], [1, 2, INFINITY, 4], [1, 2, 10**400, 4], [-3, -4, 90, 90.5], [1, 2, 0, 4], [[1, 2, 3, 4]]),
]


def content():
    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (2, 1, 5)]
    boxes = [{"id": i, "image_id": i, "category_id": i, "bbox": [10, 10.25, 20, 15], "area": 9} for i in (1, 2)]
    return {"images": images, "annotations": boxes, "categories": [{"id": i, "name": f"c{i}"} for i in (1, 2)]}


def outcome(path, caplog):
    """The records and log lines of a data set, or its error."""
    caplog.clear()
    try:
        data = COCODataSet(image_dir=str(path.parent), anno_path=str(path), data_fields=FIELDS, allow_empty=True)
    except DataError as error:
        return str(error)
    records = [{key: getattr(value, "tolist", lambda v=value: v)() for key, value in r.items()} for r in data.records]
    return records, data.class_names, list(data.findings), [record.getMessage() for record in caplog.records]


@pytest.fixture
def same(tmp_path, monkeypatch, caplog):
    """A check that a file of these bytes gives the same with and without columns; it returns whether it has columns."""
    caplog.set_level("INFO")

    def check(data):
        path = tmp_path / "train.json"
        path.write_bytes(data)
        is_regular = read_columns(path) is not None
        found = outcome(path, caplog)
        with monkeypatch.context() as patch:
            patch.setattr(coco_cache, "read_columns", lambda path: None)
            assert outcome(path, caplog) == found
        return is_regular

    return check


@pytest.mark.parametrize(
    ("rows", "field", "values"),
    [
        ("images", "id", ODD_IDS),
        ("images", "file_name", ODD_NAMES),
        ("images", "width", ODD_NUMBERS),
        ("images", "height", ODD_NUMBERS),
        ("annotations", "image_id", ODD_IDS),
        ("annotations", "category_id", ODD_IDS),
        ("annotations", "bbox", ODD_BOXES),
        ("annotations", "area", ODD_NUMBERS),
        ("annotations", "iscrowd", ODD_FLAGS),
        ("annotations", "ignore", ODD_FLAGS),
        ("categories", "id", ODD_IDS),
        ("categories", "name", ODD_NAMES),
    ],
)
def test_odd_values_of_a_field(same, rows, field, values):
    for value in values:
        changed = content()
        if value == MISSING:
            changed[rows][0].pop(field, None)
        else:
            changed[rows][0][field] = value
        same(json.dumps(changed).encode())


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, MISSING, [], {}, "text", [3], [None], [[]], [{}], 7])
def test_odd_lists(same, key, value):
    changed = content()
    if value == MISSING:
        del changed[key]
    else:
        changed[key] = value
    same(json.dumps(changed).encode())


def test_fields_that_are_skipped(same):
    changed = content()
    for number, value in enumerate(
        [[[1.5, 2, 3]], {"counts": "aé", "size": [1, 2]}, NAN, "\ud800", {"a": [None, True]}]
    ):
        changed["annotations"][0][f"other{number}"] = value
        changed["images"][0][f"other{number}"] = value
        same(json.dumps(changed).encode())
    assert same(json.dumps({**content(), "info": {"a": [1]}, "annotations_of_others": "é"}).encode())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_encodings(same, encoding):
    text = json.dumps({**content(), "info": "é"}, ensure_ascii=False)
    assert not same(text.encode(encoding))
    assert same(text.encode())
    assert not same(text.encode()[:-1])
    assert not same(text.encode() + b"{}")
    assert not same(text.encode() + b"\0")


def test_characters_are_checked_across_pieces(same, monkeypatch):
    text = json.dumps({**content(), "info": "aé图🙂" * 9}, ensure_ascii=False).encode()
    for size in (1, 2, 3, 7):
        monkeypatch.setattr("ppdet.utils.formats.coco_columns.PIECE", size)
        assert same(text)
        assert not same(text.replace("图".encode(), "图".encode()[:2], 1))


def test_a_repeated_key_counts_once(same):
    text = json.dumps(content()).encode()
    assert same(
        text.replace(b'"width": 64', b'"width": 63, "width": 64').replace(b'"area": 9', b'"area": 1, "area": 9')
    )
    assert same(text.replace(b'{"images"', b'{"images": [], "images"'))


def test_readers_of_names_alone_need_no_slow_parsing(tmp_path, monkeypatch):
    """Of COCO's training file, the json module makes 2 GiB of objects."""

    def read_text(path):
        raise AssertionError(f"{path} is parsed by the json module")

    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    path = tmp_path / "annotations" / "train.json"
    path.write_text(json.dumps(content()))
    for number in (1, 2, 5):
        (tmp_path / "images" / f"{number}.png").touch()
    monkeypatch.setattr(coco_file, "read_text", read_text)
    assert ImageFolder(anno_path=str(path)).class_names == ["c1", "c2"]
    assert coco_image_ids(str(path), [f"images/{number}.png" for number in (1, 5, 2)]) == [1, 5, 2]
    assert found_data._image_folder(tmp_path, path) == "images"


def test_columns_hold_what_the_file_holds(tmp_path):
    path = tmp_path / "a.json"
    written = content()
    written["annotations"][1] |= {"iscrowd": 1, "ignore": 1}
    del written["annotations"][0]["area"]
    path.write_text(json.dumps(written))
    found = coco_file.load_coco(path)
    assert found["images"].ids.tolist() == [2, 1, 5] and list(found["images"].names) == ["2.png", "1.png", "5.png"]
    assert (found["images"].widths.tolist(), found["images"].heights.tolist()) == ([64] * 3, [48] * 3)
    expected = AnnotationColumns(
        image_ids=[1, 2],
        category_ids=[1, 2],
        xywh=[[10, 10.25, 20, 15]] * 2,
        area=[NAN, 9],
        crowd=[False, True],
        ignore=[False, True],
    )
    for name, column in found["annotations"]._asdict().items():
        np.testing.assert_array_equal(column, getattr(expected, name), err_msg=name)
    assert found["categories"] == written["categories"]
