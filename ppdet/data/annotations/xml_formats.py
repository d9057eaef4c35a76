"""Pascal VOC's XML, one file for each image, and CVAT's XML ("CVAT for images 1.1"), one file for all."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.data.annotations.image_index import folded
from ppdet.data.annotations.labeled_set import (
    LARGEST_FILE,
    LabeledBox,
    LabeledImage,
    LabeledSet,
    Losses,
    Objects,
    box_around,
)
from ppdet.data.annotations.parsing import size_of, text_of, xml_of
from ppdet.data.annotations.tool_splits import PARTS, split_of_folder
from ppdet.utils.disk.files import lines_of
from ppdet.utils.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # nosec B405  # only its type

CVAT_SHAPES = ("box", "polygon")


def read_voc(root: str, files: list[str], losses: Losses) -> LabeledSet:
    """Read Pascal VOC's files.

    Boxes keep VOC's numbers: x = xmin, width = xmax - xmin. Objects marked difficult are kept, with "difficult": 1.
    Lists ImageSets/Main/train.txt (or else trainval.txt), val.txt and test.txt beside the annotations' folder are the
    tool's split, or folders of the files that are called train, valid, val or test.

    Args:
        root: the folder that is converted.
        files: the XML files in it.
    """
    result = LabeledSet("Pascal VOC", losses)
    splits = _voc_splits(root)
    for path in files:
        try:
            element = xml_of(path)
        except DataError as error:
            losses.add("annotation files that cannot be read left out", str(error))
            continue
        if element.tag != "annotation":
            losses.add("XML files that are not Pascal VOC's left out", path)
            continue
        stem = Path(path).stem
        given = (element.findtext("filename") or "").strip()
        image = LabeledImage(
            given or stem,
            path,
            size_of(element.findtext("size/width"), element.findtext("size/height")),
            _VocBoxes(element, losses, path),
            splits.get(stem) or splits.get(folded(stem)) or split_of_folder(root, path),
        )
        result.images.append(image)
    return result


class _VocBoxes:
    """Reads the boxes of a file of Pascal VOC."""

    def __init__(self, element: "Element", losses: Losses, path: str) -> None:
        self._element, self._losses, self._path = element, losses, path

    def __call__(self, size: tuple[int, int]) -> list[LabeledBox]:
        return Objects(self._losses, self._path).boxes(self._element.iter("object"), self._read)

    def _read(self, element: "Element") -> LabeledBox:
        from globox import BoundingBox

        if element.find("bndbox") is None and element.find("polygon") is None:
            raise DataError("objects without a box left out (robndbox is not read)")
        if element.find("bndbox") is None:
            return self._polygon(element)
        box = BoundingBox.from_xml(element)
        more = {"difficult": 1} if (element.findtext("difficult") or "").strip() == "1" else {}
        return LabeledBox(box.label, (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin), more)

    def _polygon(self, element: "Element") -> LabeledBox:
        """The box around a polygon of elements x1, y1, x2, y2 and so on."""
        numbers = {child.tag: child.text or "" for child in element.iterfind("polygon/*")}
        xs, ys = ([numbers[tag] for tag in sorted(numbers, key=len) if tag[0] == axis] for axis in "xy")
        polygon = LabeledBox(element.findtext("name") or "", box_around(zip(xs, ys, strict=True)))
        self._losses.add("polygons replaced by the boxes around them", self._path)
        return polygon


def _voc_splits(root: str) -> dict[str, str]:
    """The split of each image, by the stem of its name, also as `folded` writes it.

    Pascal VOC 2007 is mostly used with the lists trainval.txt and test.txt alone; trainval is then its training part.
    """
    splits: dict[str, str] = {}
    for folder in sorted(Path(root).glob("**/ImageSets/Main")):
        training = "train" if (folder / "train.txt").is_file() else "trainval"
        for name, part in ((training, "train"), ("val", "val"), ("test", "test")):
            listed = folder / f"{name}.txt"
            if listed.is_file():
                for line in lines_of(text_of(str(listed))):
                    splits.update((name, part) for name in (line.split()[0], line.strip(), folded(line)))
    return splits


def read_cvat(root: str, files: list[str], losses: Losses) -> LabeledSet:
    """Read CVAT's files for images: boxes and polygons, and the classes in the order of the task.

    Subsets that are called as parts of a data set are, in any letter case, such as Train or validation, are its split.
    Images of other subsets, such as batch_3, are in no part.

    Args:
        root: the folder that is converted.
        files: the XML files in it.
    """
    result = LabeledSet("CVAT", losses)
    for path in files:
        element = xml_of(path, LARGEST_FILE)
        if element.find("track") is not None and element.find("image") is None:
            raise DataError(f"{path} is CVAT's XML for videos (tracks): export it as 'CVAT for images 1.1' or as COCO")
        result.names += [label.text or "" for label in element.findall("./meta/*/labels/label/name")]
        for image in element.iter("image"):
            name = image.get("name") or ""
            size = size_of(image.get("width"), image.get("height"))
            boxes = _CvatBoxes(image, losses, f"{path}, {name}")
            subset = (image.get("subset") or "").strip().lower()
            result.images.append(LabeledImage(name, path, size, boxes, PARTS.get(subset, "")))
    return result


class _CvatBoxes:
    """Reads the boxes of an image of CVAT."""

    def __init__(self, element: "Element", losses: Losses, place: str) -> None:
        self._element, self._losses, self._place = element, losses, place

    def __call__(self, size: tuple[int, int]) -> list[LabeledBox]:
        for other in self._element:
            if other.tag not in CVAT_SHAPES and other.get("label") is not None:
                self._losses.add(f"objects that are not boxes or polygons left out ({other.tag})", self._place)
        shapes = [shape for shape in self._element if shape.tag in CVAT_SHAPES]
        return Objects(self._losses, self._place).boxes(shapes, self._read)

    def _read(self, element: "Element") -> LabeledBox:
        from globox import BoundingBox

        if element.tag == "polygon":
            points = [point.split(",") for point in (element.get("points") or "").split(";")]
            polygon = LabeledBox(element.get("label") or "", box_around(points))
            self._losses.add("polygons replaced by the boxes around them", self._place)
            return polygon
        if float(element.get("rotation") or 0) % 360 != 0:
            raise DataError("rotated boxes left out")
        box = BoundingBox.from_cvat(element)
        return LabeledBox(box.label, (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin))


def is_voc(path: str) -> bool:
    """Whether an XML file begins like Pascal VOC's."""
    return _tag(path) == "annotation"


def is_cvat(path: str) -> bool:
    """Whether an XML file begins like CVAT's."""
    return _tag(path) == "annotations"


def _tag(path: str) -> str:
    """The name of the root element by the start of a file, "" if it has none."""
    import re

    from ppdet.utils.disk.files import decode_text, open_regular

    try:
        with open_regular(path) as stream:
            start = decode_text(stream.read(4096), errors="replace")
    except OSError:
        return ""
    match = re.search(r"<([A-Za-z_][\w.-]*)", re.sub(r"<!--.*?-->|<!DOCTYPE[^\[>]*", "", start, flags=re.DOTALL))
    return match[1] if match and os.path.isfile(path) else ""
