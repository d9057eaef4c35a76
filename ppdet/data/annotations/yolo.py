"""YOLO's label files, one for each image: lines of class number and box, as shares of the image's sides."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdet.data.annotations.labeled_set import (
    LARGEST_OF_IMAGE,
    LabeledBox,
    LabeledImage,
    LabeledSet,
    Losses,
    Objects,
    box_around,
)
from ppdet.data.annotations.parsing import text_of, yaml_of
from ppdet.utils.disk.files import lines_of
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.ranges import MAX_CLASSES

if TYPE_CHECKING:
    from ppdet.data.annotations.image_index import ImageIndex

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
NAME_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels")


def read_yolo(root: str, index: "ImageIndex", losses: Losses) -> LabeledSet:
    """Read a data set of YOLO: all images of the folder, each with the label file of the same name, if it has one.

    An image without a label file, or with an empty one, is an image without objects, as in Ultralytics. The split is
    the nearest folder of an image that is called train, valid, val or test.

    Args:
        root: the folder that is converted. Class names are in its data.yaml, or in classes.txt or obj.names.
        index: the files in it.

    Raises:
        DataError: there are no class names.
    """
    result = LabeledSet("YOLO", losses)
    result.names = _names(root, index)
    labels: dict[str, list[str]] = {}
    for path in index.files:
        if path.lower().endswith(".txt") and os.path.basename(path).lower() not in NAME_FILES:
            labels.setdefault(Path(path).stem, []).append(path)
    used: set[str] = set()
    for path in index.paths:
        beside = _label_file(path, labels.get(Path(path).stem, []))
        if beside is None:
            losses.add("images without a label file kept as images without objects", path)
        else:
            used.add(beside)
        folders = Path(os.path.relpath(path, root)).parts[:-1]
        split = next((SPLITS[part.lower()] for part in reversed(folders) if part.lower() in SPLITS), "")
        result.images.append(LabeledImage(path, beside or path, None, _YoloBoxes(beside, result.names, losses), split))
    for path in (path for paths in labels.values() for path in paths if path not in used):
        if _is_labels(path):
            losses.add("label files without an image left out", path)
    return result


class _YoloBoxes:
    """Reads the lines of a label file."""

    def __init__(self, path: str | None, names: list[str], losses: Losses) -> None:
        self._path, self._names, self._losses = path, names, losses

    def __call__(self, size: tuple[int, int]) -> list[LabeledBox]:
        if self._path is None:
            return []
        try:
            lines = lines_of(text_of(self._path, LARGEST_OF_IMAGE))
        except DataError as error:
            self._losses.add("annotation files that cannot be read left out", str(error))
            return []
        return Objects(self._losses, self._path).boxes(lines, lambda line: self._read(line, size))

    def _read(self, line: str, size: tuple[int, int]) -> LabeledBox:
        from globox import BoundingBox

        words = line.split()
        number = float(words[0])
        if not (number == int(number) and 0 <= number < len(self._names)):
            raise DataError(f"objects with a class number beyond the {len(self._names)} names left out")
        label = self._names[int(number)]
        if len(words) >= 7 and len(words) % 2 == 1:  # a polygon
            sides = list(map(float, words[1:]))
            points = [(x * size[0], y * size[1]) for x, y in zip(sides[::2], sides[1::2])]
            polygon = LabeledBox(label, box_around(points))
            self._losses.add("polygons replaced by the boxes around them", str(self._path))
            return polygon
        box = BoundingBox.from_yolo_v5(line, image_size=size)  # with or without a score at the end
        return LabeledBox(label, (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin))


def _label_file(image: str, candidates: list[str]) -> str | None:
    """The label file of an image: where `labels` stands for `images` in its path, beside it, or the only one."""
    folder, name = os.path.split(image)
    parts = folder.split(os.sep)
    wanted = [os.path.join(folder, f"{Path(name).stem}.txt")]
    for position in (i for i in range(len(parts) - 1, -1, -1) if parts[i] == "images"):
        swapped = [*parts[:position], "labels", *parts[position + 1 :]]
        wanted.insert(0, os.path.join(os.sep.join(swapped), f"{Path(name).stem}.txt"))
    found = next((path for path in wanted if path in candidates), None)
    return found or (candidates[0] if len(candidates) == 1 else None)


def _names(root: str, index: "ImageIndex") -> list[str]:
    """The class names of the data set."""
    for path in (path for path in index.files if path.lower().endswith((".yaml", ".yml"))):
        content = yaml_of(path)
        if isinstance(content, dict) and content.get("names"):
            return _listed(content["names"], path)
    for path in (path for path in index.files if os.path.basename(path).lower() in NAME_FILES):
        return lines_of(text_of(path, LARGEST_OF_IMAGE))
    raise DataError(
        f"{root}: label files of YOLO have numbers alone, and there is no data.yaml with names, classes.txt or "
        "obj.names: put one class name on each line of classes.txt, in the order of the numbers"
    )


def _listed(names: Any, path: str) -> list[str]:
    if isinstance(names, dict):
        keys = list(names)
        if not all(type(key) is int and 0 <= key < MAX_CLASSES for key in keys):
            raise DataError(f"{path}: the keys of names are {short_repr(keys)}, expected whole numbers from 0")
        return [str(names.get(number, f"class_{number}")) for number in range(max(keys) + 1)]
    if isinstance(names, list):
        return [str(name) for name in names]
    raise DataError(f"{path}: names is {short_repr(names)}, expected a list of class names")


def is_yolo(index: "ImageIndex") -> bool:
    """Whether files of a folder look like a data set of YOLO: a label file, by its first line, or a data.yaml."""
    texts = [path for path in index.files if path.lower().endswith(".txt")]
    stems = {Path(path).stem for path in index.paths}
    likely = [path for path in texts if Path(path).stem in stems][:20]
    return any(_is_labels(path) for path in likely)


def _is_labels(path: str) -> bool:
    try:
        lines = lines_of(text_of(path, LARGEST_OF_IMAGE))
    except DataError:  # a file of another kind
        return False
    words = lines[0].split() if lines else []
    try:
        return (
            len(words) >= 5 and float(words[0]) == int(float(words[0])) and all(float(word) <= 2 for word in words[1:])
        )
    except (ValueError, OverflowError):
        return False
