"""Writing boxes in the formats of labelling tools: one function for each format, in `WRITERS`.

Boxes are written to a hundredth of a pixel, or more exactly where a format has shares of the image.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree  # nosec B405  # it writes

import numpy as np
import yaml

from ppdet.utils.disk.files import atomic_path, copy_file, write_json
from ppdet.utils.errors import DataError

# XML 1.0 has no place for other characters, however they are escaped.
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class DetectedImage(NamedTuple):
    """An image with its detections.

    path: the image file. name: its path from the folder of images, with slashes. height, width: in pixels, as a viewer
    shows the image. rows: (M, 6) of [class, score, x1, y1, x2, y2], pixels, within the image and with area.
    """

    path: str
    name: str
    height: int
    width: int
    rows: np.ndarray


def boxes_of(image: DetectedImage, class_names: Sequence[str]) -> Iterator[tuple[str, float, list[float]]]:
    """Yield the class's name, the score and [x1, y1, x2, y2], in pixels to a hundredth, of each box."""
    for label, score, *corners in image.rows.tolist():
        yield class_names[int(label)], round(score, 4), [round(value, 2) for value in corners]


def write_labelstudio(
    images: Sequence[DetectedImage], class_names: list[str], folder: Path, image_url: str
) -> tuple[Path, str]:
    """Write tasks.json, with a prediction in each task, and label_config.xml, the labelling interface."""
    tasks = []
    for image in images:
        results = []
        for number, (label, score, *corners) in enumerate(image.rows.tolist()):
            x1, y1, x2, y2 = corners
            results.append(
                {
                    "id": f"box{number}",
                    "from_name": "label",
                    "to_name": "image",
                    "type": "rectanglelabels",
                    "original_width": image.width,
                    "original_height": image.height,
                    "image_rotation": 0,
                    "score": round(score, 4),
                    "value": {
                        "x": 100 * x1 / image.width,
                        "y": 100 * y1 / image.height,
                        "width": 100 * (x2 - x1) / image.width,
                        "height": 100 * (y2 - y1) / image.height,
                        "rotation": 0,
                        "rectanglelabels": [class_names[int(label)]],
                    },
                }
            )
        # The least certain images come first when tasks are sorted by this score.
        mean = float(image.rows[:, 1].mean()) if len(image.rows) else 0.0
        prediction = {"model_version": "ppdet", "score": round(mean, 4), "result": results}
        tasks.append({"data": {"image": image_url + quote(image.name)}, "predictions": [prediction]})
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    labels = ElementTree.SubElement(view, "RectangleLabels", name="label", toName="image")
    for name in class_names:
        ElementTree.SubElement(labels, "Label", value=xml_text(name))
    # Label Studio refuses a text with a declaration of its encoding.
    ElementTree.indent(view)
    write_lines(folder / "label_config.xml", [ElementTree.tostring(view, encoding="unicode")])
    write_json(folder / "tasks.json", tasks)
    return folder / "tasks.json", (
        f"in Label Studio, paste {folder / 'label_config.xml'} as the code of the labelling interface, then import "
        "tasks.json"
    )


def write_cvat(
    images: Sequence[DetectedImage], class_names: list[str], folder: Path, image_url: str
) -> tuple[Path, str]:
    """Write annotations.xml, "CVAT for images 1.1", and labels.json, the labels of the task."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "size").text = str(len(images))
    ElementTree.SubElement(task, "mode").text = "annotation"
    labels = ElementTree.SubElement(task, "labels")
    for name in class_names:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = xml_text(name)
        attribute = ElementTree.SubElement(ElementTree.SubElement(label, "attributes"), "attribute")
        for key, text in {"name": "score", "mutable": "False", "input_type": "text", "default_value": ""}.items():
            ElementTree.SubElement(attribute, key).text = text
        ElementTree.SubElement(attribute, "values")
    for number, image in enumerate(images):
        size = {"width": str(image.width), "height": str(image.height)}
        parent = ElementTree.SubElement(root, "image", {"id": str(number), "name": xml_text(image.name), **size})
        for name, score, corners in boxes_of(image, class_names):
            places = {key: f"{value:.2f}" for key, value in zip(("xtl", "ytl", "xbr", "ybr"), corners)}
            kept = {"label": xml_text(name), "source": "auto", "occluded": "0", **places, "z_order": "0"}
            ElementTree.SubElement(
                ElementTree.SubElement(parent, "box", kept), "attribute", name="score"
            ).text = f"{score:.4f}"
    declared = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    write_json(folder / "labels.json", [{"name": name, "attributes": [declared]} for name in class_names])
    write_xml(folder / "annotations.xml", root)
    return folder / "annotations.xml", (
        f"in CVAT, make a task with the images and the labels of {folder / 'labels.json'} (Raw), then upload "
        "annotations.xml to it as CVAT 1.1"
    )


def write_yolo(
    images: Sequence[DetectedImage], class_names: list[str], folder: Path, image_url: str
) -> tuple[Path, str]:
    """Write data.yaml, images, labels, and with_score, whose lines end with the score.

    Ultralytics refuses to train on lines with a sixth number, so that scores have a folder of their own.
    """
    for image in images:
        copy_image(image, folder / "images")
        lines, with_score = [], []
        for label, score, x1, y1, x2, y2 in image.rows.tolist():
            shares = (
                (x1 + x2) / 2 / image.width,
                (y1 + y2) / 2 / image.height,
                (x2 - x1) / image.width,
                (y2 - y1) / image.height,
            )
            lines.append(" ".join([str(int(label)), *(f"{share:.8f}" for share in shares)]))
            with_score.append(f"{lines[-1]} {score:.4f}")
        for place, content in (("labels", lines), ("with_score", with_score)):
            write_lines(beside(folder / place, image.name, ".txt"), content)
    data = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(class_names))}
    write_lines(folder / "data.yaml", [yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip()])
    return folder / "data.yaml", f"correct the boxes of {folder} in any tool that opens YOLO's folders"


def write_voc(
    images: Sequence[DetectedImage], class_names: list[str], folder: Path, image_url: str
) -> tuple[Path, str]:
    """Write Annotations, JPEGImages and labels.txt as Pascal VOC has them."""
    for image in images:
        copy_image(image, folder / "JPEGImages")
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "folder").text = "JPEGImages"
        ElementTree.SubElement(root, "filename").text = xml_text(image.name)
        size = ElementTree.SubElement(root, "size")
        for key, pixels in {"width": image.width, "height": image.height, "depth": 3}.items():
            ElementTree.SubElement(size, key).text = str(pixels)
        ElementTree.SubElement(root, "segmented").text = "0"
        for name, score, corners in boxes_of(image, class_names):
            parent = ElementTree.SubElement(root, "object")
            fields = {"name": xml_text(name), "pose": "Unspecified", "truncated": "0", "difficult": "0"}
            for key, text in {**fields, "confidence": f"{score:.4f}"}.items():
                ElementTree.SubElement(parent, key).text = text
            box = ElementTree.SubElement(parent, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners):
                ElementTree.SubElement(box, key).text = f"{value:g}" if value == int(value) else f"{value:.2f}"
        write_xml(beside(folder / "Annotations", image.name, ".xml"), root)
    write_lines(folder / "labels.txt", class_names)
    return folder / "Annotations", f"correct the boxes of {folder} in any tool that opens Pascal VOC's folders"


def write_labelme(
    images: Sequence[DetectedImage], class_names: list[str], folder: Path, image_url: str
) -> tuple[Path, str]:
    """Write a JSON file beside a copy of each image, as LabelMe does, with the score as a shape's description."""
    for image in images:
        copy_image(image, folder)
        shapes: list[dict[str, Any]] = []
        for name, score, (x1, y1, x2, y2) in boxes_of(image, class_names):
            fields = {"label": name, "points": [[x1, y1], [x2, y2]], "group_id": None, "shape_type": "rectangle"}
            shapes.append({**fields, "description": f"score {score:.4f}", "flags": {}})
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": PurePosixPath(image.name).name}
        size = {"imageData": None, "imageHeight": image.height, "imageWidth": image.width}
        write_lines(beside(folder, image.name, ".json"), [json.dumps({**content, **size}, indent=2)])
    write_lines(folder / "labels.txt", class_names)
    return folder, f"correct the boxes: labelme {folder} --labels {folder / 'labels.txt'}"


def write_coco(
    images: Sequence[DetectedImage], class_names: list[str], folder: Path, image_url: str
) -> tuple[Path, str]:
    """Write annotations.json: COCO's, with the score in each annotation. Category ids count from 1."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        for label, score, *corners in image.rows.tolist():
            x1, y1, x2, y2 = (round(value, 2) for value in corners)
            width, height = round(x2 - x1, 2), round(y2 - y1, 2)
            fields = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": int(label) + 1}
            place = {"bbox": [x1, y1, width, height], "area": round(width * height, 4), "iscrowd": 0}
            annotations.append({**fields, **place, "segmentation": [], "score": round(score, 4)})
    files = [
        {"id": number + 1, "file_name": image.name, "width": image.width, "height": image.height}
        for number, image in enumerate(images)
    ]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(class_names)]
    content = {"images": files, "annotations": annotations, "categories": categories}
    write_json(folder / "annotations.json", content)
    return folder / "annotations.json", "import annotations.json as COCO beside the images"


Writer = Callable[[Sequence[DetectedImage], list[str], Path, str], tuple[Path, str]]
# Each returns what to import, and what to do with it. Only Label Studio's tasks need the address of images.
WRITERS: dict[str, Writer] = {
    "labelstudio": write_labelstudio,
    "cvat": write_cvat,
    "yolo": write_yolo,
    "voc": write_voc,
    "labelme": write_labelme,
    "coco": write_coco,
}


def beside(folder: Path, name: str, suffix: str) -> Path:
    """The path in `folder` of the label file of the image called `name`."""
    return folder / (os.path.splitext(name)[0] + suffix)


def copy_image(image: DetectedImage, folder: Path) -> None:
    """Copy an image under its name into a folder."""
    target = folder / image.name
    target.parent.mkdir(parents=True, exist_ok=True)
    copy_file(image.path, target)


def xml_text(text: str) -> str:
    """Return a text that XML can hold.

    Raises:
        DataError: it has a character that XML cannot hold.
    """
    wrong = NOT_IN_XML.search(text)
    if wrong:
        raise DataError(f"{text!r} cannot be written as XML, which has no character {wrong.group()!r}: rename it")
    return text


def write_xml(path: Path, root: ElementTree.Element) -> None:
    """Write an XML document, indented, atomically."""
    ElementTree.indent(root)
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines of text in UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
