"""Reading the COCO file that is split, writing its parts, and describing them for the user."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from ppdet.data.sources.dataset import join_path
from ppdet.utils.boxes import have_area
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_file import coco_categories, image_ids_of, load_coco_json
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import printable

logger = get_logger(__name__)

PathLike = str | Path


@dataclass(frozen=True)
class Part:
    """A COCO file that was written.

    Attributes:
        path: the file.
        images: number of its images.
        boxes: number of its boxes that training uses: with area, and neither iscrowd nor ignore.
        classes: number of the classes of these boxes.
        image_dir: folder of the images, None if it was not found.
    """

    path: str
    images: int
    boxes: int
    classes: int
    image_dir: str | None


@dataclass(frozen=True)
class Split:
    """The two files of a split, which have no image in common.

    Attributes:
        categories: number of categories in the files.
        dataset_dir: folder of the data set, to which paths in a configuration are relative.
    """

    labeled: Part
    unlabeled: Part
    categories: int
    dataset_dir: str


class CocoFile:
    """A COCO file that is split, with the columns by which images are chosen."""

    def __init__(self, path: PathLike) -> None:
        self.path = join_path(None, os.fspath(path))
        self.content = load_coco_json(self.path)
        self.category_ids, _ = coco_categories(self.content, self.path)
        self.image_ids = image_ids_of(self.content, self.path)
        if not self.image_ids:
            raise DataError(f"{self.path} has no images: there is nothing to split")
        self.file_names = [row.get("file_name") for row in self.content["images"]]
        annotations = Annotations(
            self.content.get("annotations"), image_ids=self.image_ids, category_ids=self.category_ids, path=self.path
        )
        annotations.require_known_categories()
        self.image_of, self.class_of = annotations.image, annotations.category
        is_marked = annotations.crowd | annotations.ignore
        self.is_usable = have_area(annotations.xyxy) & ~is_marked & (annotations.image >= 0)
        strays = int((self.image_of < 0).sum())
        if strays:
            logger.warning("%s: %d annotations of images not in the file are left out", self.path, strays)

    def classes_of_images(self) -> list[set[int]]:
        """The classes of the usable boxes of each image."""
        classes: list[set[int]] = [set() for _ in self.image_ids]
        for image, category in zip(self.image_of[self.is_usable].tolist(), self.class_of[self.is_usable].tolist()):
            classes[image].add(category)
        return classes

    def encode_rows(self) -> None:
        """Replace every row by its JSON text, once for all files to write. Doing it in place needs least memory."""
        for key in ("images", "annotations"):
            rows = self.content[key]
            for i in range(len(rows)):
                try:
                    rows[i] = json.dumps(rows[i])
                except RecursionError:
                    raise DataError(f"{self.path}: number {i} of its {key} is too deeply nested") from None

    def write(self, path: Path, mask: np.ndarray, drop_annotations: bool = False) -> None:
        """Write the images of a mask (N,) and their annotations. `encode_rows` must have been called."""
        chosen = {"images": mask, "annotations": self._annotations(mask) & (not drop_annotations)}
        with open(path, "w", encoding="utf-8", newline="") as file:
            for number, (key, value) in enumerate(self.content.items()):
                rows = ", ".join(compress(value, chosen[key].tolist())) if key in chosen else None
                text = json.dumps(value) if rows is None else f"[{rows}]"
                file.write(f"{', ' if number else '{'}{json.dumps(key)}: ")
                file.write(text)
            file.write("}")

    def part(self, path: str, mask: np.ndarray, image_dir: str | None, drop_annotations: bool = False) -> Part:
        """Describe the file that `write` has written for a mask."""
        used = self._annotations(mask) & self.is_usable & (not drop_annotations)
        return Part(path, int(mask.sum()), int(used.sum()), len(np.unique(self.class_of[used])), image_dir)

    def _annotations(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of the annotations of these images; index -1, of no image, gets the appended False."""
        return np.append(mask, False)[self.image_of]

    def find_image_dir(self) -> str | None:
        """Find the folder of the first image: the data set's folder, a subfolder of it, or one of its `images`."""
        name, home = self.file_names[0], dataset_folder(self.path)
        if not isinstance(name, str):
            return None
        places = [home]
        for folder in (home, os.path.join(home, "images")):
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                places += sorted(entry.path for entry in entries if entry.is_dir())
        return next((place for place in places if os.path.isfile(os.path.join(place, name))), None)


def output_folder(folder: PathLike | None, anno_path: str) -> str:
    """Return the folder to write to, which is created if missing; by default the data set's `semi_annotations`."""
    path = join_path(None, os.fspath(folder)) if folder else os.path.join(dataset_folder(anno_path), "semi_annotations")
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise DataError(f"cannot write to {path} ({error.strerror or error}): name another --output_dir") from None


def output_file(folder: str, name: str, anno_path: str) -> str:
    """Return the path of a file to write; DataError if it is the annotation file itself."""
    path = os.path.join(folder, name)
    if os.path.exists(path) and os.path.samefile(path, anno_path):
        raise DataError(f"{path} is the annotation file itself, which would be overwritten: name another --output_dir")
    if os.path.exists(path):
        logger.warning("%s exists: it is overwritten", path)
    return path


def dataset_folder(anno_path: str) -> str:
    """The folder of the data set, two levels above its file: DATASET for DATASET/annotations/FILE.json."""
    return os.path.dirname(os.path.dirname(anno_path))


def report(splits: Sequence[Split]) -> str:
    """A table of the images, boxes and classes of every file."""
    rows = [f"{'':10} {'images':>8} {'boxes':>9} {'classes':>11}  file"]
    for split in splits:
        for name, part in (("labeled", split.labeled), ("unlabeled", split.unlabeled)):
            classes = f"{part.classes} of {split.categories}"
            rows.append(
                f"{name:10} {part.images:8d} {part.boxes:9d} {classes:>11}  {printable(_path_in_yaml(part.path))}"
            )
    return "\n".join(rows)


def config_lines(split: Split) -> str:
    """The lines of a YAML file with which one trains on the split. Paths below `dataset_dir` are relative to it."""
    labeled = _dataset_lines("TrainDataset", split.labeled, split.dataset_dir, "image, gt_bbox, gt_class, is_crowd")
    unlabeled = _dataset_lines("UnsupTrainDataset", split.unlabeled, split.dataset_dir, "image")
    return "\n".join([*labeled, *unlabeled, "  supervised: false"])


def _dataset_lines(key: str, part: Part, dataset_dir: str, fields: str) -> list[str]:
    image_dir = "IMAGES # write the folder of the images here, relative to dataset_dir"
    return [
        f"{key}: !SemiCOCODataSet",
        f"  dataset_dir: {_yaml(_path_in_yaml(dataset_dir))}",
        f"  image_dir: {image_dir if part.image_dir is None else _yaml(_path_in_yaml(part.image_dir, dataset_dir))}",
        f"  anno_path: {_yaml(_path_in_yaml(part.path, dataset_dir))}",
        f"  data_fields: [{fields}]",
    ]


def _yaml(path: str) -> str:
    return path if re.fullmatch(r"[\w./][\w./@+-]*", path) else json.dumps(path)


def _path_in_yaml(path: str, folder: str | None = None) -> str:
    """Return `path` relative to `folder`, or to the working directory, if it is below that."""
    relative = os.path.relpath(path, folder)
    return path if relative.split(os.sep)[0] == os.pardir else relative
