"""The data set of a folder, or of one annotation file, as far as a configuration depends on it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ppdet.data.checking.listed_split import find_image_dir, train_and_val
from ppdet.data.sources.coco_dataset import COCODataSet
from ppdet.utils.disk.files import display_path
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_columns import ImageColumns
from ppdet.utils.formats.coco_file import file_names_of, load_coco

SAMPLE = 300  # images whose training targets are looked at
CONVERT = (
    "`ppdet data convert SOURCE FOLDER --split 0.8/0.2` writes such a folder from Pascal VOC, YOLO and other formats"
)


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
        sample: of at most SAMPLE images with boxes, evenly over the data set: boxes (M, 4) x1, y1, x2, y2, their
            classes (M, 1), and (height, width).
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
    sample: Sequence[tuple[np.ndarray, np.ndarray, tuple[int, int]]] = ()

    def pixels(self, short: float, long: float) -> str:
        """The size of an image with these sides, width first, such as 640x480."""
        sides = (short, long) if self.portrait else (long, short)
        return "x".join(f"{side:.0f}" for side in sides)


def read_data(path: Path, image_dir: Path | None = None) -> FoundData:
    """Read a data set.

    Args:
        path: a folder with COCO files, or one such file; see `train_and_val`.
        image_dir: folder of the images; None: one near the files that has them, see `find_image_dir`.

    Raises:
        DataError: there is no such file or no image, or the file cannot be used. The message says what to do.
    """
    if not path.exists():
        raise DataError(
            f"{path}: no such folder or file: expected a folder with train.json, or one COCO file; {CONVERT}"
        )
    train_file, val_file = train_and_val(str(path))
    train = Path(train_file)
    folder = path if path.is_dir() else path.parent
    folder = folder.parent if folder.resolve().name == "annotations" else folder
    dataset, train_part = _read_part(folder, train, "train", image_dir)
    val_part = _read_part(folder, Path(val_file), "val", image_dir)[1] if val_file else None
    counts = [len(record["gt_bbox"]) for record in dataset.records]
    boxes = np.concatenate([record["gt_bbox"] for record in dataset.records])
    if not len(boxes):
        raise DataError(f"{train}: no image has a box to train on: label some images, or name another file")
    labeled = [record for record in dataset.records if len(record["gt_bbox"])]
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
        sample=[(r["gt_bbox"], r["gt_class"], (r["h"], r["w"])) for r in labeled[:: -(-len(labeled) // SAMPLE)]],
    )


def _read_part(folder: Path, file: Path, part: str, images: Path | None) -> tuple[COCODataSet, Part]:
    """The data set of an annotation file, whose image folder is looked for unless `images` is given."""
    image_dir = _image_folder(folder, file) if images is None else images.resolve().as_posix()
    anno_path = file.relative_to(folder).as_posix()
    dataset = COCODataSet(
        dataset_dir=str(folder),
        image_dir=image_dir,
        anno_path=anno_path,
        data_fields=["image", "gt_bbox", "gt_class"],
        allow_empty=True,
        for_evaluation=part == "val",
    )
    empty = sum(not len(record["gt_bbox"]) for record in dataset.records)
    return dataset, Part(anno_path, image_dir, len(dataset.records), empty)


def _image_folder(folder: Path, file: Path) -> str:
    """The folder, relative to `folder`, that has most of the images of an annotation file, see `find_image_dir`."""
    content = load_coco(file)
    names = file_names_of(content, str(file)) if isinstance(content.get("images"), (list, ImageColumns)) else []
    if not names:
        raise DataError(f"{file} lists no images: {CONVERT}")
    return Path(os.path.relpath(find_image_dir(str(file.absolute()), names), folder)).as_posix()
