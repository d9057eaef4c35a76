"""Small exports of labelling tools, and the boxes that a conversion makes of them."""

import json
from pathlib import Path

import cv2
import numpy as np

from ppdet.data.annotations.to_coco import convert_annotations

LINE = "0 0.2 0.375 0.2 0.25\n"  # in an image of 100 x 80 pixels, this is BOX
BOX = ("cat", 10, 20, 20, 20)
OBJECT = "<name>cat</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
VOC = f"<annotation><object>{OBJECT}</object></annotation>"
HEADING = "filename,class,xmin,ymin,xmax,ymax\n"
POLYGON = "".join(
    f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate([(10, 20), (30, 25), (15, 40)], start=1)
)
CVAT = '<annotations><image name="a.png" width="100" height="80">{}</image></annotations>'
RECTANGLE = {"label": "cat", "points": [[10, 20], [30, 40]], "shape_type": "rectangle"}


def folder(tmp_path: Path, files: dict[str, str | list | dict]) -> Path:
    """A folder of these files; images are of 100 x 80 pixels."""
    for name, content in files.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            cv2.imwrite(str(path), np.zeros((80, 100, 3), np.uint8))
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "source"


def converted(tmp_path: Path, files: dict, **options) -> tuple[dict[str, dict[str, list]], dict[str, int]]:
    """The boxes of each image in each file that was written, and what was left out."""
    result = convert_annotations(folder(tmp_path, files), tmp_path / "out", **options)
    found = {}
    for path in map(Path, result.counts):
        content = json.loads(path.read_text())
        names = {row["id"]: row["name"] for row in content["categories"]}
        found[path.stem] = {
            image["file_name"]: [
                (names[row["category_id"]], *row["bbox"])
                for row in content["annotations"]
                if row["image_id"] == image["id"]
            ]
            for image in content["images"]
        }
    return found, result.losses.counts


def images(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "")


def labelstudio(**more) -> dict:
    value = {"x": 10, "y": 25, "width": 20, "height": 25, "rectanglelabels": ["cat"], **more.pop("value", {})}
    return {"original_width": 100, "original_height": 80, "value": value, **more}


def labelstudio_task(name: str, **more) -> dict:
    return {"data": {"image": f"/d/{name}"}, "annotations": [{"result": [labelstudio(to_name="image")]}], **more}
