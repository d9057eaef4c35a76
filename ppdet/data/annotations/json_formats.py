"""LabelMe's JSON, one file for each image, and Label Studio's, one file for all (JSON and JSON-MIN)."""

import urllib.parse
from pathlib import Path
from typing import Any

from ppdet.data.annotations.labeled_set import (
    LARGEST_OF_IMAGE,
    ONE_POINT,
    LabeledBox,
    LabeledImage,
    LabeledSet,
    Losses,
    Objects,
    box_around,
)
from ppdet.data.annotations.parsing import json_of, size_of
from ppdet.data.annotations.tool_splits import split_of_folder
from ppdet.utils.disk.images import is_image_name
from ppdet.utils.errors import DataError

LABEL_KEYS = ("rectanglelabels", "polygonlabels", "labels")  # of a region of Label Studio


def read_labelme(root: str, files: list[str], losses: Losses) -> LabeledSet:
    """Read LabelMe's files: rectangles and polygons.

    Args:
        root: the folder that is converted.
        files: the JSON files in it; those of other kinds are counted as left out.
    """
    result = LabeledSet("LabelMe", losses)
    for path in files:
        try:
            content = json_of(path, LARGEST_OF_IMAGE)
        except DataError as error:
            losses.add("annotation files that cannot be read left out", str(error))
            continue
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            losses.add("JSON files that are not LabelMe's left out", path)
            continue
        size = size_of(content.get("imageWidth"), content.get("imageHeight"))
        name = content.get("imagePath")
        boxes = _LabelMeBoxes(content["shapes"], losses, path)
        result.images.append(
            LabeledImage(
                name if isinstance(name, str) and name else Path(path).stem,
                path,
                size,
                boxes,
                split_of_folder(root, path),
            )
        )
    return result


class _LabelMeBoxes:
    """Reads the shapes of a file of LabelMe."""

    def __init__(self, shapes: list, losses: Losses, path: str) -> None:
        self._shapes, self._losses, self._path = shapes, losses, path

    def __call__(self, size: tuple[int, int]) -> list[LabeledBox]:
        return Objects(self._losses, self._path).boxes(self._shapes, self._read)

    def _read(self, shape: dict[str, Any]) -> LabeledBox:
        from globox import BoundingBox

        kind = shape.get("shape_type") or "polygon"  # LabelMe before 3.3 had no other
        if kind not in ("rectangle", "polygon"):
            raise DataError(f"objects that are not rectangles or polygons left out ({str(kind)[:20]})")
        if not isinstance(shape["label"], (str, int, float)):
            raise DataError("objects without a class left out")
        if len(shape["points"]) < 2:
            raise DataError(ONE_POINT)
        box = BoundingBox.from_labelme(shape)
        if kind == "polygon":
            self._losses.add("polygons replaced by the boxes around them", self._path)
        return LabeledBox(box.label, (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin))


def read_labelstudio(root: str, files: list[str], losses: Losses) -> LabeledSet:
    """Read Label Studio's exports: rectangles and polygons of the last annotation of each task that was not cancelled.

    Predictions are not read, so that tasks that nobody has labeled or accepted are left out and counted.

    Args:
        root: the folder that is converted.
        files: the JSON files in it.
    """
    result = LabeledSet("Label Studio", losses)
    for path in files:
        content = json_of(path)
        tasks = content if isinstance(content, list) else [content]
        for number, task in enumerate(tasks, start=1):
            place = f"{path}, task {number}"
            name, regions = _image_and_regions(task, losses, place)
            if name is None:
                losses.add("tasks of Label Studio without an image left out", place)
            elif regions is None and task.get("predictions"):
                losses.add("tasks of Label Studio whose predictions nobody has accepted left out", place)
            elif regions is None:
                losses.add("tasks of Label Studio that nobody has labeled left out", place)
            elif len({str(region.get("to_name")) for region in regions if _is_shape(region)}) > 1:
                losses.add("tasks of Label Studio whose boxes are of several images left out", place)
            else:
                first = next((region for region in regions if isinstance(region, dict)), {})
                size = size_of(first.get("original_width"), first.get("original_height"))
                boxes = _LabelStudioBoxes(regions, losses, f"{path}, {name}")
                result.images.append(LabeledImage(name, path, size, boxes, in_shares=True))
    return result


class _LabelStudioBoxes:
    """Reads the regions of a task of Label Studio, whose coordinates are percent of the image's sides."""

    def __init__(self, regions: list, losses: Losses, place: str) -> None:
        self._regions, self._losses, self._place = regions, losses, place

    def __call__(self, size: tuple[int, int]) -> list[LabeledBox]:
        def read(region: dict[str, Any]) -> LabeledBox:
            return self._read(region, size)

        return Objects(self._losses, self._place).boxes(self._regions, read)

    def _read(self, region: dict[str, Any], size: tuple[int, int]) -> LabeledBox:
        from globox import BoundingBox, BoxFormat

        value = region.get("value", region)
        labels = next((value[key] for key in LABEL_KEYS if value.get(key)), None)
        if not isinstance(labels, list):
            raise DataError("regions of Label Studio that are not labeled boxes or polygons left out")
        if float(region.get("image_rotation") or 0) % 360 != 0:
            self._losses.add(
                "regions of images that were turned in Label Studio, which may be in other places", self._place
            )
        if len(labels) > 1:
            self._losses.add("regions with several classes, of which the first is used", self._place)
        if "points" in value:
            points = [(x * size[0] / 100, y * size[1] / 100) for x, y in value["points"]]
            polygon = LabeledBox(labels[0], box_around(points))
            self._losses.add("polygons replaced by the boxes around them", self._place)
            return polygon
        if float(value.get("rotation") or 0) % 360 != 0:
            raise DataError("rotated boxes left out")
        x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
        coords = (x * size[0] / 100, y * size[1] / 100, width * size[0] / 100, height * size[1] / 100)
        box = BoundingBox.create(label=labels[0], coords=coords, box_format=BoxFormat.LTWH)
        return LabeledBox(box.label, (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin))


def _image_and_regions(task: Any, losses: Losses, place: str) -> tuple[str | None, list | None]:
    """The image's name of a task, and its regions: [] for an image that was seen to be empty, None for no answer."""
    if not isinstance(task, dict):
        return None, None
    data = task.get("data")
    if "annotations" not in task and "completions" not in task and not isinstance(data, dict):  # JSON-MIN
        name = _image_name(task)
        regions: list | None = next(
            (value for value in task.values() if _are_regions(value)), [] if "annotator" in task else None
        )
        return name, regions
    answers = task.get("annotations", task.get("completions"))
    done = [
        answer
        for answer in (answers if isinstance(answers, list) else [])
        if isinstance(answer, dict) and not answer.get("was_cancelled") and isinstance(answer.get("result"), list)
    ]
    if len(done) > 1:
        losses.add("tasks of Label Studio with several annotations, of which the last is used", place)
    return _image_name(data if isinstance(data, dict) else {}), done[-1]["result"] if done else None


def _is_shape(region: Any) -> bool:
    """Whether a region of an annotation is a box or a polygon, which belongs to the image that `to_name` names."""
    return isinstance(region, dict) and isinstance(region.get("value"), dict) and "original_width" in region


def _are_regions(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "original_width" in value[0]


def _image_name(data: dict[str, Any]) -> str | None:
    """The image of a task: the value that ends like an image's name, or that of the key image."""
    for value in [data.get("image"), *data.values()]:
        if isinstance(value, str):
            name = local_name(value)
            if is_image_name(name) or value is data.get("image"):
                return name
    return None


def local_name(address: str) -> str:
    """Return the path in an address of Label Studio: /data/upload/1/a%20b.jpg or /data/local-files/?d=1/a.jpg."""
    try:
        parsed = urllib.parse.urlsplit(address)
    except ValueError:
        return address
    local = urllib.parse.parse_qs(parsed.query).get("d")
    return local[0] if local else urllib.parse.unquote(parsed.path)
