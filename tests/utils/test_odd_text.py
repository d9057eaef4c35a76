"""Text in other encodings, and files of names in other forms, are told in one line that says what to do."""

import json

import pytest

from ppdet.core.workspace import load_config
from ppdet.data.sources import ImageFolder
from ppdet.utils.errors import ConfigError, DataError
from ppdet.utils.errors import DataError as AnyDataError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_file import coco_categories, load_coco_json

CONTENT = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "größe"}]}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("indent", [None, 1])
def test_utf_16_without_a_mark(tmp_path, encoding, indent):
    (tmp_path / "a.json").write_bytes(json.dumps(CONTENT, indent=indent).encode(encoding))
    with pytest.raises(AnyDataError, match=r"a.json has NUL characters, as UTF-16 without .*: save it as UTF-8"):
        load_coco_json(tmp_path / "a.json")
    (tmp_path / "a.yml").write_bytes("epoch: 3\n".encode(encoding))
    (tmp_path / "b.yml").write_text("_BASE_: a.yml\n")
    for name in ("a.yml", "b.yml"):
        with pytest.raises(ConfigError, match=r"has NUL characters, as UTF-16 without .*: save it as UTF-8"):
            load_config(str(tmp_path / name))


@pytest.mark.parametrize("encoding", ["latin-1", "gbk"])
def test_other_encodings(tmp_path, encoding):
    text = json.dumps(CONTENT, ensure_ascii=False).replace("größe", {"gbk": "安全帽"}.get(encoding, "größe"))
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    with pytest.raises(AnyDataError, match=r"a.json is not JSON in UTF-8 \(byte \d+ is 0x..\): save it as UTF-8"):
        load_coco_json(tmp_path / "a.json")
    (tmp_path / "a.yml").write_bytes("name: größe\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not UTF-8 text: save it as UTF-8"):
        load_config(str(tmp_path / "a.yml"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("0,red\n1,blue\n", "a list with numbers beside the names"),
        ("1: red\n2: blue\n", "a list with numbers beside the names"),
        ("0 red\n1 blue\n", "a list with numbers beside the names"),
        ("red\t0\nblue\t1\n", "a list with numbers beside the names"),
        ("red, blue, green\n", "one line of names with commas"),
        ('["red", "blue"]', "a list in brackets"),
        ('[\n"red",\n"blue"\n]', "a list in brackets"),
        ('item {\n  id: 1\n  name: "red"\n}\n', "a label map"),
        ("- red\n- blue\n", "a YAML list"),
    ],
)
def test_lists_of_names_in_other_forms(tmp_path, text, kind):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        ImageFolder(anno_path=str(tmp_path / "l.txt"))
    assert f"l.txt is {kind}" in str(caught.value) and "expected one class name per line" in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["red"],
        ["1 euro", "2 euro"],
        ["10 cent", "20 cent"],
        ["0", "1", "2"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ["[unk]", "[cls]"],
        ["speed: 30", "speed: 50"],
        ["item", "box"],
        ["traffic light", "-"],
    ],
)
def test_names_that_look_odd_are_names(tmp_path, names):
    (tmp_path / "l.txt").write_text("\n".join(names))
    assert ImageFolder(anno_path=str(tmp_path / "l.txt")).class_names == names


@pytest.mark.parametrize("name", ["", "  ", "\ufeff", "\ufeff \n"])
def test_a_class_has_a_name(name):
    content = {"categories": [{"id": 4, "name": "red"}, {"id": 9, "name": name}]}
    with pytest.raises(
        AnyDataError, match=r"name of category 1 is .*, expected a text that is not empty \(its id is 9\)"
    ):
        coco_categories(content, "a.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [True, 1, 2, 3]}, "annotation 1 has bbox [True, 1, 2, 3], where one is not a number (its id is 21)"),
        ({"bbox": [1, 2, 3]}, "annotation 1 has bbox [1, 2, 3], expected [x, y, width, height] (its id is 21)"),
        ({"iscrowd": 2}, "iscrowd of annotation 1 is 2, expected 0 or 1 (its id is 21)"),
        ({"image_id": "x"}, "image_id of annotation 1 is 'x', expected an integer (its id is 21)"),
        ({"image_id": 2**64}, "expected an integer of at most 64 bits (its id is 21)"),
        ({"id": None, "iscrowd": 2}, "iscrowd of annotation 1 is 2, expected 0 or 1"),
    ],
)
def test_entries_are_named_by_their_ids_too(change, message):
    rows = [{"id": 20 + i, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]} for i in range(2)]
    rows[1].update(change)
    with pytest.raises(AnyDataError) as caught:
        Annotations(rows, image_ids=[1], category_ids=[1], path="a.json")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1 CVAT file, e.g. 0.xml: expected COCO JSON; convert it,"), (2, "convert them,")]
)
def test_a_folder_of_one_file_is_told_in_the_singular(tmp_path, count, text):
    for i in range(count):
        (tmp_path / f"{i}.xml").write_text("<?xml version='1.0'?><annotations></annotations>")
    with pytest.raises(AnyDataError) as caught:
        load_coco_json(tmp_path)
    assert text in str(caught.value)
