"""The error for a path that is no COCO file says what the path contains."""

import json

import pytest

from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.metrics import COCOMetric
from ppdet.utils.errors import DataError

LABELME = {"version": "5.5.0", "shapes": [], "imagePath": "a.jpg", "imageHeight": 4, "imageWidth": 4}
TASK = {"id": 1, "annotations": [{"result": []}], "data": {"image": "a.jpg"}}
LABEL_STUDIO_MIN = {"id": 1, "image": "/data/a.jpg", "label": [], "annotator": 1}
CREATE_ML = {
    "image": "a.jpg",
    "annotations": [{"label": "x", "coordinates": {"x": 1, "y": 1, "width": 1, "height": 1}}],
}
COCO = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
VOC = "<annotation>\n<folder>x</folder></annotation>"
CVAT = '<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>'
YOLO = "0 0.5 0.5 0.1 0.1\n12 0.25 0.5 1 0.0625\n"
DATA_YAML = "path: .\ntrain: images/train\nnames:\n  0: cat\n"
CSV = "filename,xmin,ymin,xmax,ymax,class\na.jpg,1,2,3,4,cat\n"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def message(path, read):
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def boxes(path):
    COCODataSet(image_dir=str(path.parent), anno_path=str(path), data_fields=["image", "gt_bbox"])


def truth(path):
    COCOMetric(anno_path=path, category_ids=[1], class_names=["cat"])


def names(path):
    ImageFolder(anno_path=str(path))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", LABELME, "LabelMe JSON"),
        ("a.json", [LABELME], "a list of LabelMe annotations"),
        ("a.json", [TASK], "Label Studio JSON (export as COCO there)"),
        ("a.json", [LABEL_STUDIO_MIN], "Label Studio JSON-MIN"),
        ("a.json", [CREATE_ML], "CreateML JSON"),
        ("a.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}], "a list of COCO results"),
        ("a.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}], "a list of COCO annotations alone"),
        ("a.json", {"a.jpg12": {"filename": "a.jpg", "regions": []}}, "VGG Image Annotator"),
        ("a.json", [{"name": "a.jpg", "labels": []}], "BDD100K"),
        ("a.json", {"type": "FeatureCollection", "features": []}, "GeoJSON"),
        ("a.json", {"0": "cat", "1": "dog"}, "a JSON object with '0', '1'"),
        ("a.json", ["cat"], "a JSON list of str"),
        ("a.json", "[]", "an empty JSON list"),
        ("a.json", "null", "null"),
        ("a.json", "<!DOCTYPE html><html><body>404</body></html>", "a web page (HTML)"),
        ("a.json", "", "empty"),
        ("a.json", '{"a": 1}\n{"a": 2}\n', "JSON Lines"),
        ("a.json", b"PK\x03\x04 and so on", "a ZIP archive"),
        ("a.jsonl", '{"a": 1}\n{"a": 2}\n', "JSON Lines"),
        ("a.xml", VOC, "XML of Pascal VOC"),
        ("a.xml", CVAT, "XML of CVAT (export as COCO there)"),
        ("a.txt", YOLO, "a label file of YOLO"),
        ("data.yaml", DATA_YAML, "a YAML of YOLO"),
        ("a.csv", CSV, "a table (CSV)"),
        ("a.txt", CSV, "a table (CSV)"),
        ("a.json", b"\xef\xbb\xbf" + CSV.encode(), "a table (CSV)"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "an image (JPEG)"),
    ],
)
def test_files(tmp_path, name, content, kind):
    path = write(tmp_path / name, content)
    for read in (boxes, truth):
        text = message(path, read)
        assert kind in text and ("is not JSON" in text or "is not COCO but" in text)
    if name.endswith(".json") or kind != "empty":
        assert kind in message(path, names)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (
            {"a.json": LABELME, "b.json": LABELME, "a.jpg": b"\xff\xd8\xff", "b.jpg": b"\xff\xd8\xff"},
            "with 2 LabelMe files",
        ),
        ({"x/a.xml": VOC, "x/b.xml": VOC, "x/c.xml": VOC}, "with 3 Pascal VOC files, e.g. x/a.xml"),
        ({"annotations.xml": CVAT}, "with 1 CVAT file,"),
        ({"labels/a.txt": YOLO, "labels/b.txt": YOLO, "images/a.jpg": b"\xff\xd8\xff"}, "with 2 YOLO files"),
        ({"a.jpg": b"\xff\xd8\xff", "b.png": b"\x89PNG"}, "with 2 image files"),
        (
            {"annotations/train.json": COCO, "a.jpg": b""},
            "of COCO JSON: name a file in it, e.g. annotations/train.json",
        ),
        ({"notes.md": "hello"}, "with 1 other file"),
        ({}, "without any file"),
    ],
)
def test_folders(tmp_path, files, kind):
    folder = tmp_path / "annotations"
    folder.mkdir()
    for name, content in files.items():
        write(folder / name, content)
    for read in (boxes, truth):
        assert f"{folder} is a folder {kind}" in message(folder, read)
    assert "is a folder" in message(folder, names)


def test_a_missing_file_says_what_is_beside_it(tmp_path):
    write(tmp_path / "val.json", COCO)
    for read in (boxes, truth):
        assert "a.json does not exist: " in message(tmp_path / "a.json", read)
        assert "its folder has val.json" in message(tmp_path / "a.json", read)
    assert "tools/gen_semi_coco.py" in message(tmp_path / "semi_annotations" / "a.json", boxes)


def test_names_of_classes_are_not_mistaken(tmp_path):
    lines = ["__background__", "<unknown>", "cat, black", "traffic light", "3", "12 monkeys", "names: all", "[void]"]
    for line in lines:
        write(tmp_path / "labels.txt", f"{line}\ndog\n")
        assert ImageFolder(anno_path=str(tmp_path / "labels.txt")).class_names == [line, "dog"]
    write(tmp_path / "classes", COCO)  # JSON whatever it is called
    assert ImageFolder(anno_path=str(tmp_path / "classes")).class_names == ["cat"]


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("labelme", "with 5 LabelMe files"),
        ("labelme/BloodImage_00000.json", "LabelMe JSON"),
        ("labelstudio/project-1.json", "Label Studio JSON-MIN"),
        ("cvat/annotations.xml", "XML of CVAT"),
        ("yolo", "YOLO files"),
        ("yolo/data.yaml", "a YAML of YOLO"),
        ("yolo/labels/train/BloodImage_00000.txt", "a label file of YOLO"),
        ("roboflow_coco", "of COCO JSON: name a file in it"),
    ],
)
def test_what_tools_export(shared, place, kind):
    assert kind in message(shared / "cases" / "formats" / place, boxes)


def test_an_archive_is_unpacked_and_not_converted(tmp_path):
    text = message(write(tmp_path / "a.json", b"PK\x03\x04"), boxes)
    assert "is not JSON but a ZIP archive: unpack it, and name or convert what is in it" in text
