"""COCO files that mean harm: each ends in one line, or counts the annotation or the image as any other unusable one."""

import copy
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.data.data_checks import class_findings
from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.data.splitting.split import split_annotations
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.formats.annotation_kinds import coco_problem
from ppdet.utils.formats.coco_file import short_repr

IMAGES = [
    {"id": 1, "file_name": "a.jpg", "width": 80, "height": 60},
    {**{"id": 2, "width": 80, "height": 60}, "file_name": "b.jpg"},
]
ROWS = [
    {"id": number, "image_id": number, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    for number in (1, 2)
]
CONTENT: dict[str, Any] = {"images": IMAGES, "annotations": ROWS, "categories": [{"id": 1, "name": "x"}]}


def read_all(path: Path) -> list[str]:
    """What training, evaluation and splitting say: one line each, or "" where they accept the file."""
    folder = str(path.parent)

    def evaluate() -> None:
        data = COCODataSet(dataset_dir=folder, anno_path=path.name, for_evaluation=True)
        metric = COCOMetric(anno_path=path, category_ids=data.category_ids, class_names=data.class_names)
        ids = [record["im_id"].item() for record in data.records]
        metric.update(np.array([[0, 0.5, 5, 5, 25, 25]] * len(ids)), [1] * len(ids), ids, [(60, 80)] * len(ids))
        metric.table()

    readers: tuple[Callable, ...] = (
        lambda: COCODataSet(dataset_dir=folder, anno_path=path.name, data_fields=["image", "gt_bbox", "gt_class"]),
        evaluate,
        lambda: split_annotations(path, images=1, output_dir=path.parent / "split"),
    )
    lines = []
    for read in readers:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                read()
            lines.append("")
        except DataError as error:
            lines.append(str(error))
    assert all(len(line) < 1000 and "\n" not in line for line in lines)
    return lines


def changed(section: str, key: str, value: Any) -> str:
    content = copy.deepcopy(CONTENT)
    content[section][0][key] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("images", "id", 10**30, "id of image 0 is 1000000000000000000000000000000, expected an integer of at most 64"),
        ("images", "id", 2**63, "expected an integer of at most 64 bits"),
        ("images", "id", 1e30, "id of image 0 is 1e+30, expected an integer"),
        ("images", "id", float("inf"), "id of image 0 is inf, expected an integer"),
        ("images", "id", [], "id of image 0 is [], expected an integer"),
        ("images", "id", True, "id of image 0 is True, expected an integer"),
        ("images", "id", 2, "two images have the same id, 2"),
        ("annotations", "category_id", 10**400, "expected an integer of at most 64 bits"),
        ("annotations", "image_id", 1.5, "image_id of annotation 0 is 1.5, expected an integer"),
        ("annotations", "bbox", [[1]] * 4, "annotation 0 has bbox [[1], [1], [1], [1]], where one is not a number"),
        ("annotations", "bbox", [10**400] * 4, "where one is not a number"),
        ("annotations", "bbox", {"x": 1}, "annotation 0 has bbox {'x': 1}, expected [x, y, width, height]"),
        ("annotations", "iscrowd", [], "iscrowd of annotation 0 is [], expected 0 or 1"),
        ("categories", "id", "1", "id of category 0 is '1', expected an integer"),
        ("categories", "name", "", "name of category 0 is '', expected a text that is not empty"),
    ],
)
def test_one_line_names_the_item(tmp_path, section, key, value, message):
    path = tmp_path / "a.json"
    path.write_text(changed(section, key, value))
    assert all(line.startswith(str(path)) and message in line for line in read_all(path))


@pytest.mark.parametrize("name", ["a\0.jpg", "\ud800.jpg", ["a.jpg"], None, 7])
def test_file_names_that_no_file_can_have(tmp_path, name):
    path = tmp_path / "a.json"
    path.write_text(changed("images", "file_name", name))
    training, evaluation, _ = read_all(path)
    for line in (training, evaluation):
        assert "file_name of image 0 is" in line
        assert line.endswith("expected the path of a file (its id is 1)")


@pytest.mark.parametrize("key", ["width", "height"])
@pytest.mark.parametrize("value", [0, -1, 1e30, 10**400, float("inf"), float("nan"), True, None, [], "x" * 5000])
def test_sizes_that_no_image_has(tmp_path, key, value):
    path = tmp_path / "a.json"
    content = copy.deepcopy(CONTENT)
    content["images"][0] |= {key: value, "file_name": "n" * 5000}
    path.write_text(json.dumps(content))
    training, evaluation, _ = read_all(path)
    for line in (training, evaluation):
        assert f"has no size: its {key} is " in line


@pytest.mark.parametrize(
    "box",
    [
        *([float("inf")] * 4, [float("-inf"), 0, 1, 1], [1e308] * 4, [-1e308, 0, 1e308, 1e308], [0, 0, 1e200, 1e200]),
        *([None] * 4, [], None, [float("nan"), 0, 1, 1], [5, 5, -20, -20], [0, 0, 5e-324, 5e-324]),
    ],
)
def test_boxes_without_use_are_counted(tmp_path, box):
    path = tmp_path / "a.json"
    path.write_text(changed("annotations", "bbox", box))
    assert read_all(path) == ["", "", ""]
    data = COCODataSet(dataset_dir=str(tmp_path), anno_path="a.json", data_fields=["image", "gt_bbox"])
    assert [record["im_id"].item() for record in data.records] == [2]
    assert "1 of 2 boxes cannot be used" in data.findings[0]


@pytest.mark.parametrize("value", [1e300, float("inf"), float("nan"), 10**400, -5, "x", [], None])
def test_areas_without_use_are_the_boxes(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text(changed("annotations", "area", value))
    assert read_all(path) == ["", "", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON but empty"),
        ("[]", "is not COCO but an empty JSON list"),
        ("[" * 100_000, "is not JSON"),
        ('{"images": ' * 50_000, "is not JSON"),
        (json.dumps(CONTENT)[:-20], "is not JSON"),
        (json.dumps(CONTENT) * 2, "it has several values, like JSON Lines"),
        (json.dumps(CONTENT).replace("400", "1" * 100_000), "is not JSON"),
        (json.dumps(CONTENT).replace(" ", "\0"), "has NUL characters"),
    ],
)
def test_what_is_not_json_is_one_line(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert all(message in line for line in read_all(path))


def test_names_with_control_characters_reach_no_terminal(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(changed("annotations", "category_id", "\x1b[31m\u202e"))
    assert all("\x1b" not in line and "\u202e" not in line for line in read_all(path))


def test_more_categories_than_any_data_set_has(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({**CONTENT, "categories": [{"id": i, "name": f"c{i}"} for i in range(30_001)]}))
    for read in (lambda: ImageFolder(anno_path=str(path)), lambda: COCODataSet(anno_path=str(path))):
        with pytest.raises(DataError, match="has 30,001 categories: expected at most 30,000"):
            read()
    names = tmp_path / "names.txt"
    names.write_text("".join(f"c{i}\n" for i in range(30_001)))
    with pytest.raises(DataError, match=r"names\.txt has 30,001 lines: expected at most 30,000 class names"):
        ImageFolder(anno_path=str(names))
    names.write_bytes(b"\n" * (2**24 + 1))
    with pytest.raises((DataError, OSError), match=r"empty|larger than"):
        ImageFolder(anno_path=str(names))


def test_messages_about_many_or_long_names_are_short():
    (finding,) = class_findings(["x" * 10**6] * 1000, range(1000), np.ones(1000), "")
    assert finding.startswith("categories 0, 1, 2, 3, 4, 5, 6, 7 and 992 more are all called 'xxxx")
    assert len(finding) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_in_a_folder_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    assert "is a folder with 1 JSON file" in str(coco_problem(str(tmp_path)))
    assert "is not a file" in str(coco_problem(str(tmp_path / "a.json")))


def test_values_that_cannot_be_shown():
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert short_repr(value) in ("too deeply nested", f"{'[' * 57}…")
    assert short_repr(ImageError) == repr(ImageError)[:57] + "…" * (len(repr(ImageError)) > 60)
