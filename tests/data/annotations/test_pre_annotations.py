"""Detections leave as labels in the formats that labelling tools document, and only into a folder of their own.

Label Studio: https://labelstud.io/guide/predictions and guide/task_format. CVAT: https://docs.cvat.ai/docs/manual/
advanced/xml_format and its constructor of labels. YOLO: https://docs.ultralytics.com/datasets/detect.
"""

import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml

from ppdet.data.annotations.pre_annotations import PreAnnotations
from ppdet.deploy.results import write_results
from ppdet.utils.errors import DataError
from ppdet.utils.formats.label_formats import FORMATS

NAMES = ["red cell", 'white & "<b>"']
# Two boxes in the first image of 80 x 60, one of which goes beyond its edge; none in the second of 40 x 30.
ROWS = np.array([[1, 0.91234, 8, 6, 28, 36.5], [0, 0.5, 60.128, 45, 90, 75], [0, 0.2, 1, 1, 5, 5]], np.float64)
BOXES = [[8, 6, 28, 36.5], [60.13, 45, 80, 60]]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    paths = [str(tmp_path / "images" / name) for name in ("a 1.png", "sub/b.png")]
    for path, (height, width) in zip(paths, ((60, 80), (30, 40))):
        cv2.imwrite(path, np.zeros((height, width, 3), np.uint8))
    return paths


def write(kind, images, tmp_path, **options):
    labels = PreAnnotations(kind, str(tmp_path / "images"), **options)
    detections = [(0, ROWS), (1, np.zeros((0, 6)))]
    write_results(
        detections,
        images,
        str(tmp_path / "out"),
        class_names=NAMES,
        category_ids=[3, 7],
        visualize=False,
        pre_annotations=labels,
    )
    return tmp_path / "out" / kind


def test_label_studio_tasks_have_the_documented_fields(images, tmp_path):
    folder = write("labelstudio", images, tmp_path)
    first, second = json.loads((folder / "tasks.json").read_text())
    assert set(first) == {"data", "predictions"}
    assert first["data"] == {"image": "/data/local-files/?d=a%201.png"}
    assert second["data"] == {"image": "/data/local-files/?d=sub/b.png"} and second["predictions"][0]["result"] == []
    (prediction,) = first["predictions"]
    assert prediction["model_version"] == "ppdet" and prediction["score"] == pytest.approx(0.7062)
    white, red = prediction["result"]
    value = white.pop("value")
    assert white.pop("id") != red["id"]
    assert white == {
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 80,
        "original_height": 60,
        "image_rotation": 0,
        "score": 0.9123,
    }
    assert value.pop("rectanglelabels") == [NAMES[1]]
    assert value == pytest.approx({"x": 10, "y": 10, "width": 25, "height": 100 * 30.5 / 60, "rotation": 0})
    # Label Studio's parser refuses an XML declaration. The names in results are those of the labelling interface.
    assert (folder / "label_config.xml").read_text().startswith("<View>")
    view = ElementTree.parse(folder / "label_config.xml").getroot()
    image, labels = view
    assert (view.tag, image.tag, labels.tag) == ("View", "Image", "RectangleLabels")
    assert image.attrib == {"name": "image", "value": "$image"} and labels.attrib == {
        "name": "label",
        "toName": "image",
    }
    assert [(label.tag, label.attrib["value"]) for label in labels] == [("Label", name) for name in NAMES]


def test_the_address_of_images_in_label_studio_can_be_chosen(images, tmp_path):
    folder = write("labelstudio", images, tmp_path, image_url="https://host/x/")
    assert json.loads((folder / "tasks.json").read_text())[0]["data"]["image"] == "https://host/x/a%201.png"


def test_cvat_xml_has_the_documented_elements(images, tmp_path):
    folder = write("cvat", images, tmp_path)
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    assert root.tag == "annotations" and root.findtext("version") == "1.1"
    assert [label.findtext("name") for label in root.findall("meta/task/labels/label")] == NAMES
    first, second = root.findall("image")
    assert first.attrib == {"id": "0", "name": "a 1.png", "width": "80", "height": "60"}
    assert second.attrib == {"id": "1", "name": "sub/b.png", "width": "40", "height": "30"} and len(second) == 0
    box = first[0]
    assert box.tag == "box" and box.attrib == {
        "label": NAMES[1],
        "source": "auto",
        "occluded": "0",
        "xtl": "8.00",
        "ytl": "6.00",
        "xbr": "28.00",
        "ybr": "36.50",
        "z_order": "0",
    }
    (attribute,) = box
    assert (attribute.tag, attribute.attrib, attribute.text) == ("attribute", {"name": "score"}, "0.9123")
    labels = json.loads((folder / "labels.json").read_text())
    assert [label["name"] for label in labels] == NAMES
    (declared,) = labels[0]["attributes"]
    assert set(declared) == {"name", "mutable", "input_type", "default_value", "values"}
    assert declared["name"] == "score" and declared["input_type"] == "text"


def test_yolo_has_lines_that_ultralytics_trains_on_and_lines_with_the_score(images, tmp_path):
    folder = write("yolo", images, tmp_path)
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data["names"] == dict(enumerate(NAMES)) and (folder / data["train"] / "a 1.png").is_file()
    for place, columns in (("labels", 5), ("with_score", 6)):
        table = np.loadtxt(folder / place / "a 1.txt")
        assert table.shape == (2, columns)
        assert table[0, :5] == pytest.approx([1, 18 / 80, 21.25 / 60, 20 / 80, 30.5 / 60], abs=1e-8)
    assert table[:, 5].tolist() == [0.9123, 0.5]
    assert (folder / "labels" / "sub" / "b.txt").read_text() == ""


def test_voc_labelme_and_coco_have_the_boxes_and_scores(images, tmp_path):
    root = ElementTree.parse(write("voc", images, tmp_path) / "Annotations" / "a 1.xml").getroot()
    found = [[float(box.text) for box in item.find("bndbox")] for item in root.findall("object")]
    assert found == BOXES and [box.tag for box in root.find("object/bndbox")] == ["xmin", "ymin", "xmax", "ymax"]
    assert [item.findtext("name") for item in root.findall("object")] == NAMES[::-1]
    assert [item.findtext("confidence") for item in root.findall("object")] == ["0.9123", "0.5000"]
    assert [root.findtext(f"size/{key}") for key in ("width", "height", "depth")] == ["80", "60", "3"]

    folder = write("labelme", images, tmp_path)
    content = json.loads((folder / "a 1.json").read_text())
    assert (folder / content["imagePath"]).is_file() and (content["imageWidth"], content["imageHeight"]) == (80, 60)
    assert [[*shape["points"][0], *shape["points"][1]] for shape in content["shapes"]] == BOXES
    assert content["shapes"][0]["label"] == NAMES[1] and "0.9123" in content["shapes"][0]["description"]

    content = json.loads((write("coco", images, tmp_path) / "annotations.json").read_text())
    assert content["categories"] == [{"id": 1, "name": NAMES[0]}, {"id": 2, "name": NAMES[1]}]
    assert [image["file_name"] for image in content["images"]] == ["a 1.png", "sub/b.png"]
    first, second = content["annotations"]
    assert first["bbox"] == [8, 6, 20, 30.5] and second["bbox"] == [60.13, 45, 19.87, 15]
    assert (first["category_id"], first["score"], first["image_id"]) == (2, 0.9123, 1)


@pytest.mark.parametrize("kind", FORMATS)
def test_labels_that_may_have_been_corrected_are_not_overwritten(images, tmp_path, kind):
    folder = write(kind, images, tmp_path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"may have been corrected.*another --output_dir"):
        write(kind, images, tmp_path)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_names_that_a_format_cannot_hold_are_one_line(images, tmp_path):
    twin = str(tmp_path / "images" / "a 1.jpg")
    with pytest.raises(DataError, match=r"a 1\.jpg and .*a 1\.png would have the same labels"):
        PreAnnotations("yolo").check([*images, twin], tmp_path / "out")
    PreAnnotations("coco").check([*images, twin], tmp_path / "out")
    # A label file outside of the format's folder could replace any file.
    with pytest.raises(DataError, match=r"a 1\.png is not in .*images/sub: name the folder of all images"):
        PreAnnotations("labelme", str(tmp_path / "images" / "sub")).check(images, tmp_path / "out")
    labels = PreAnnotations("cvat", str(tmp_path / "images"))
    with pytest.raises(DataError, match=r"'a\\x1b' cannot be written as XML"):
        labels.write({0: ROWS}, images, ["a\x1b", "b"], tmp_path / "out")


def test_labels_without_a_box_are_a_warning(images, tmp_path, log):
    PreAnnotations("coco").write({0: np.zeros((0, 6))}, images, NAMES, tmp_path / "out")
    assert "no box has the score of --draw_threshold" in log.text
    PreAnnotations("cvat").write({0: ROWS}, images, NAMES, tmp_path / "out")
    assert log.text.count("--draw_threshold") == 1
