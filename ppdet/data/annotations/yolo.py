"""YOLO's label files, one for each image: lines of class number and box, as shares of the image's sides."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdet.data.annotations.conversion_folders import is_yaml
from ppdet.data.annotations.image_index import UNREAD_FORMAT, common_ending, folded
from ppdet.data.annotations.labeled_set import (
    LARGEST_OF_IMAGE,
    LARGEST_SHARE,
    LabeledBox,
    LabeledImage,
    LabeledSet,
    Losses,
    Objects,
    box_around,
)
from ppdet.data.annotations.parsing import text_of, yaml_of
from ppdet.data.annotations.tool_splits import split_of_folder, splits_of_yaml
from ppdet.utils.disk.files import lines_of
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.ranges import MAX_CLASSES

if TYPE_CHECKING:
    from ppdet.data.annotations.image_index import ImageIndex

NAME_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels")
SCORED = "with_score"  # the folder beside labels in which `ppdet infer --format yolo` writes them with scores
PROBED = 200  # label files that are looked at before a folder counts as having none


def read_yolo(root: str, index: "ImageIndex", losses: Losses, yaml: str | None = None) -> LabeledSet:
    """Read a data set of YOLO: all images of the folder, each with the label file of the same name, if it has one.

    An image without a label file, or with an empty one, is an image without objects, as in Ultralytics. Images of
    another folder belong to the data set only if they have a label file or data.yaml lists them. The split is that of
    data.yaml, or the nearest folder of an image that is called train, valid, val or test.

    Args:
        root: the folder that is converted. Class names are in its data.yaml, or in classes.txt or obj.names.
        index: the files in it.
        yaml: its data.yaml, where the user has named it.

    Raises:
        DataError: there are no class names.
    """
    result = LabeledSet("YOLO", losses)
    content, path = _data_yaml(index, yaml)
    result.names = _listed(content["names"], path) if content else _names(root, index)
    has_keypoints = bool(content.get("kpt_shape"))
    splits = splits_of_yaml(content, path, index) if content else {}
    beside = _label_files(index)
    images_of = Counter(beside.values())
    for image in index.paths:
        labels = beside.get(image)
        if labels is None and image not in index.own and image not in splits:
            losses.add("images of --image_dir without a label file left out", image)
            continue
        if labels is None:
            losses.add("images without a label file kept as images without objects", image)
        if labels is not None and images_of[labels] > 1:
            losses.add("images that have their label file with another image in common: its boxes are in both", image)
        boxes = _YoloBoxes(labels, result.names, losses, has_keypoints)
        split = splits.get(image) or split_of_folder(root, image)
        result.images.append(LabeledImage(image, labels or image, None, boxes, split))
    used = set(beside.values())
    for path in (path for path in _texts(index) if path not in used):
        if _are_labels(_first_words(path)) and not index.is_unread(Path(path).stem):
            losses.add("label files without an image left out", path)
    for image in index.unread:
        losses.add(UNREAD_FORMAT, image)
    return result


class _YoloBoxes:
    """Reads the lines of a label file."""

    def __init__(self, path: str | None, names: list[str], losses: Losses, has_keypoints: bool) -> None:
        self._path, self._names, self._losses, self._has_keypoints = path, names, losses, has_keypoints

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
        if self._has_keypoints:  # a box, and the keypoints behind it
            words = words[:5]
        sides = list(map(float, words[1:]))
        if any(abs(side) > LARGEST_SHARE for side in sides):
            raise DataError("objects left out whose numbers are no shares of the image's sides, such as pixels")
        if len(words) >= 7 and len(words) % 2 == 1:  # a polygon
            points = [(x * size[0], y * size[1]) for x, y in zip(sides[::2], sides[1::2])]
            polygon = LabeledBox(label, box_around(points))
            self._losses.add("polygons replaced by the boxes around them", str(self._path))
            return polygon
        # With or without a score at the end.
        box = BoundingBox.from_yolo_v5(" ".join(words), image_size=size)
        return LabeledBox(label, (box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin))


def _texts(index: "ImageIndex") -> list[str]:
    """The text files that may have labels: not those of `ppdet infer --format yolo` whose lines end with a score."""
    texts = [
        path
        for path in index.files
        if path.lower().endswith(".txt") and os.path.basename(path).lower() not in NAME_FILES
    ]
    folders = {os.path.dirname(path) for path in texts}
    scored = {folder for folder in folders if SCORED in Path(folder).parts and os.path.isdir(_without_score(folder))}
    return [path for path in texts if os.path.dirname(path) not in scored]


def _without_score(folder: str) -> str:
    """The folder of labels that belongs to a folder of labels with scores."""
    parts = Path(folder).parts
    place = len(parts) - 1 - parts[::-1].index(SCORED)
    return os.path.join(*parts[:place], "labels", *parts[place + 1 :])


def _label_files(index: "ImageIndex") -> dict[str, str]:
    """The label file of each image that has one.

    It is where `labels` stands for `images` in the path, or beside the image. Of the others, it is the one that has
    most folders at the end of its path in common with the image's, if neither has an equal.
    """
    texts = _texts(index)
    known = set(texts)
    found: dict[str, str] = {}
    for image in index.paths:
        exact = next((path for path in _usual_places(image) if path in known), None)
        if exact is not None:
            found[image] = exact
    used = set(found.values())
    by_stem: dict[str, list[str]] = {}
    for path in (path for path in texts if path not in used):
        by_stem.setdefault(folded(Path(path).stem), []).append(path)
    images_of: dict[str, list[str]] = {}
    for image in (path for path in index.paths if path not in found):
        same = by_stem.get(folded(Path(image).stem), [])
        best = _only_best([path for path in same if Path(path).stem == Path(image).stem] or same, image)
        if best is not None:
            images_of.setdefault(best, []).append(image)
    for labels, images in images_of.items():
        chosen = _only_best([image for image in images if image in index.own] or images, labels)
        if chosen is not None:
            found[chosen] = labels
    return found


def _usual_places(image: str) -> list[str]:
    """Where the label file of an image may be."""
    folder, name = os.path.split(image)
    parts = folder.split(os.sep)
    text = f"{Path(name).stem}.txt"
    places = [os.path.join(folder, text), os.path.join(folder, f"{Path(name).stem}.TXT")]
    for position in (i for i in range(len(parts) - 1, -1, -1) if parts[i] == "images"):
        swapped = [*parts[:position], "labels", *parts[position + 1 :]]
        places.insert(0, os.path.join(os.sep.join(swapped), text))
    return places


def _only_best(paths: list[str], other: str) -> str | None:
    """The path that has most folders at its end in common with another path; None if several have as many."""
    counts = [common_ending(Path(path).parts[:-1], Path(other).parts[:-1]) for path in paths]
    return paths[counts.index(max(counts))] if counts and counts.count(max(counts)) == 1 else None


def _data_yaml(index: "ImageIndex", named: str | None = None) -> tuple[dict[str, Any], str]:
    """The content and the path of the YAML file that is named, or of the first that has names; {} and "" without one.

    Raises:
        DataError: the file that is named has no names.
    """
    for path in [named] if named else [path for path in index.files if is_yaml(path)]:
        content = yaml_of(path)
        if isinstance(content, dict) and content.get("names"):
            return content, path
    if named:
        raise DataError(f"{named} has no names of classes: name the data.yaml of a data set of YOLO, or its folder")
    return {}, ""


def _names(root: str, index: "ImageIndex") -> list[str]:
    """The class names of a data set without data.yaml."""
    for path in (path for path in index.files if os.path.basename(path).lower() in NAME_FILES):
        return lines_of(text_of(path, LARGEST_OF_IMAGE))
    raise DataError(
        f"{root}: label files of YOLO have numbers alone, and there is no data.yaml with names, classes.txt or "
        "obj.names: put one class name on each line of classes.txt, in the order of the numbers"
    )


def _listed(names: Any, path: str) -> list[str]:
    if isinstance(names, dict):
        names = {int(key) if isinstance(key, str) and key.isdecimal() else key: name for key, name in names.items()}
        keys = list(names)
        if not all(type(key) is int and 0 <= key < MAX_CLASSES for key in keys):
            raise DataError(f"{path}: the keys of names are {short_repr(keys)}, expected whole numbers from 0")
        return [str(names.get(number, f"class_{number}")) for number in range(max(keys) + 1)]
    if isinstance(names, list):
        return [str(name) for name in names]
    raise DataError(f"{path}: names is {short_repr(names)}, expected a list of class names")


def is_yolo(index: "ImageIndex") -> bool:
    """Whether files of a folder look like a data set of YOLO: a label file, by its first line.

    Label files that are all empty count where class names say what is not in the images.
    """
    stems = {folded(Path(path).stem) for path in index.paths}
    filled = empty = 0
    for path in (path for path in _texts(index) if folded(Path(path).stem) in stems):
        words = _first_words(path)
        if _are_labels(words):
            return True
        empty += words == []
        filled += words != []
        if filled >= PROBED:
            return False
    return bool(empty and not filled and has_names(index))


def has_label_files(index: "ImageIndex") -> bool:
    """Whether an image has a text file of its name, be it empty."""
    stems = {folded(Path(path).stem) for path in index.paths}
    return any(folded(Path(path).stem) in stems and _first_words(path) == [] for path in _texts(index))


def has_names(index: "ImageIndex") -> bool:
    """Whether there is a data.yaml with names, or a file of class names."""
    return bool(_data_yaml(index)[0]) or any(os.path.basename(path).lower() in NAME_FILES for path in index.files)


def _first_words(path: str) -> list[str] | None:
    """The words of a label file's first line, [] if it is empty; None for a file of another kind."""
    try:
        lines = lines_of(text_of(path, LARGEST_OF_IMAGE))
    except DataError:
        return None
    return lines[0].split() if lines else []


def _are_labels(words: list[str] | None) -> bool:
    try:
        return (
            words is not None
            and len(words) >= 5
            and float(words[0]) == int(float(words[0]))
            and all(float(word) <= LARGEST_SHARE for word in words[1:])
        )
    except (ValueError, OverflowError):
        return False
