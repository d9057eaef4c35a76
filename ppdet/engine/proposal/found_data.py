"""The data set of a folder, or of one annotation file, as far as a configuration depends on it."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppdet.data.sources.coco_dataset import COCODataSet, image_path
from ppdet.utils.disk.files import display_path
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import file_names_of, load_coco_json
from ppdet.utils.formats.label_formats import LABEL_FIRST

CONVERT = (
    "`ppdet data convert SOURCE FOLDER --split 0.8/0.2` writes such a folder from Pascal VOC, YOLO and other formats"
)
IMAGE_FOLDERS = ("images", ".", "images/{part}", "{part}", "{part}2017", "JPEGImages")
TRIED = 50  # files that are looked for in a folder, and subfolders in which they are looked for


class Part(NamedTuple):
    """The images for training, or those for evaluation.

    anno_path and image_dir: relative to the data set's folder, with slashes. images: their number, images without boxes
    included. empty: the number of images without a box to train on.
    """

    anno_path: str
    image_dir: str
    images: int
    empty: int


class FoundData(NamedTuple):
    """A data set. All lengths are in pixels of the original images.

    Attributes:
        name: a name for the configuration and the run.
        folder: the folder to which the paths of the parts are relative.
        train: the images for training.
        val: the images for evaluation; None where the data set has none.
        classes: the names of the classes in their order.
        short, long: medians of the shorter and the longer sides of the images.
        longest_shape: long / short of the image shape that only one in twenty images exceeds.
        sides: (M,) square roots of the areas of all boxes for training, ascending.
        most_boxes: the largest number of boxes in an image.
        portrait: whether most images are higher than wide.
    """

    name: str
    folder: str
    train: Part
    val: Part | None
    classes: list[str]
    short: float
    long: float
    longest_shape: float
    sides: np.ndarray
    most_boxes: int
    portrait: bool = False

    def pixels(self, short: float, long: float) -> str:
        """The size of an image with these sides, width first, such as 640x480."""
        sides = (short, long) if self.portrait else (long, short)
        return "x".join(f"{side:.0f}" for side in sides)


def read_data(path: Path, image_dir: Path | None = None) -> FoundData:
    """Read a data set.

    Args:
        path: a folder with train.json and perhaps val.json, or with all.json, in itself or in its folder annotations;
            or one such file.
        image_dir: folder of the images; None: one in `path` that has them.

    Raises:
        DataError: there is no such file or no image, or the file cannot be used. The message says what to do.
    """
    train, val = _files(path)
    folder = train.parent.parent if train.parent.name == "annotations" else train.parent
    dataset, train_part = _read_part(folder, train, "train", image_dir)
    val_part = _read_part(folder, val, "val", image_dir)[1] if val else None
    counts = [len(record["gt_bbox"]) for record in dataset.records]
    boxes = np.concatenate([record["gt_bbox"] for record in dataset.records])
    if not len(boxes):
        raise DataError(f"{train}: no image has a box to train on: label some images, or name another file")
    sizes = np.array([(record["h"], record["w"]) for record in dataset.records], dtype=np.float64)
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    shapes = sizes.max(axis=1) / sizes.min(axis=1)
    return FoundData(
        name=train.stem if path.is_file() and train.stem not in ("train", "all") else folder.resolve().name,
        folder=display_path(folder).replace(os.sep, "/"),
        train=train_part,
        val=val_part,
        classes=dataset.class_names,
        short=float(np.median(sizes.min(axis=1))),
        long=float(np.median(sizes.max(axis=1))),
        longest_shape=float(np.quantile(shapes, 0.95)),
        sides=np.sort(sides),
        most_boxes=max(counts),
        portrait=bool(np.mean(sizes[:, 0] > sizes[:, 1]) > 0.5),
    )


def _files(path: Path) -> tuple[Path, Path | None]:
    """The annotation files for training and for evaluation."""
    if path.is_file():
        return path, None
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder or file: expected a folder with train.json, or one COCO file; {CONVERT}"
        )
    for folder in (path, path / "annotations"):
        train, val = (_file_of(folder, part) for part in ("train", "val"))
        if train:
            return train, val or _file_of(folder, "test")
        if (folder / "all.json").is_file():  # a conversion without a split
            return folder / "all.json", None
    raise DataError(
        f"{path}: no train.json in it or in its folder annotations: {CONVERT}, or name a COCO file; {LABEL_FIRST}"
    )


def _file_of(folder: Path, part: str) -> Path | None:
    """The file of a part, such as train.json or COCO's instances_train2017.json."""
    names = [folder / f"{part}.json", *sorted(folder.glob(f"instances_{part}*.json"))]
    return next((name for name in names if name.is_file()), None)


def _read_part(folder: Path, file: Path, part: str, images: Path | None) -> tuple[COCODataSet, Part]:
    """The data set of an annotation file, whose image folder is looked for unless `images` is given."""
    image_dir = _image_folder(folder, file, part) if images is None else images.resolve().as_posix()
    anno_path = file.relative_to(folder).as_posix()
    dataset = COCODataSet(
        dataset_dir=str(folder),
        image_dir=image_dir,
        anno_path=anno_path,
        data_fields=["image", "gt_bbox"],
        allow_empty=True,
        for_evaluation=part == "val",
    )
    empty = sum(not len(record["gt_bbox"]) for record in dataset.records)
    return dataset, Part(anno_path, image_dir, len(dataset.records), empty)


def _image_folder(folder: Path, file: Path, part: str) -> str:
    """The folder, relative to `folder`, that has most of the first images of an annotation file.

    Raises:
        DataError: no folder has any of them.
    """
    content = load_coco_json(file)
    names = file_names_of(content, str(file))[:TRIED] if isinstance(content.get("images"), list) else []
    if not names:
        raise DataError(f"{file} lists no images: {CONVERT}")
    usual = [name.format(part=part) for name in IMAGE_FOLDERS]
    others = sorted(path.name for path in folder.iterdir() if path.is_dir())[:TRIED]
    found = {name: _count(folder / name, names) for name in dict.fromkeys([*usual, *others])}
    best = max(found, key=lambda name: found[name])  # the first of several
    if not found[best]:
        raise DataError(
            f"{file}: its image {names[0]:.200} is in none of the folders {', '.join(found)} of {folder}: name the "
            "folder of the images with --image_dir"
        )
    return best


def _count(folder: Path, names: Iterable[str]) -> int:
    return sum(os.path.isfile(image_path(str(folder), name)) for name in names) if folder.is_dir() else 0
