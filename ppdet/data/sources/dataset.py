"""The base class of data sets, as readers, evaluation and pictures use them."""

import os
from collections.abc import Sequence

import numpy as np

from ppdet.data.sources.records import Records
from ppdet.utils.disk.images import find_images, is_image_name, no_image_error
from ppdet.utils.disk.object_storage import is_url
from ppdet.utils.disk.remote_files import find_remote
from ppdet.utils.errors import DataError
from ppdet.utils.shipped_data import how_to_get


class DetectionDataset:
    """Base class of data sets: a list of records, one for each image, and the classes of their boxes.

    A subclass sets `records`, `class_names` and `category_ids` in its constructor; the rest has defaults.

    Attributes:
        records: one dict for each image, with `im_id`, an array (1,) of int64 that no other image has, and `im_file`,
            the image's path. Optional are `h` and `w`, its height and width in pixels. Labeled images also have
            `gt_bbox` (M, 4) float32, x1, y1, x2, y2 in pixels, `gt_class` (M, 1) int32 from 0, and, optionally,
            `is_crowd` (M, 1) int32, 1 for a box around a group of objects. Transforms replace arrays in their own copy
            of the dict; nothing may write into the arrays.
        class_names: the name of each class, in the order of the numbers in `gt_class`.
        category_ids: the COCO category id of each class, which results are written with, such as [1, 2, 3].
        has_category_ids: false if `category_ids` only counts the names of a plain list: 0, 1, 2, …
        anno_path: absolute path of the COCO annotation file that evaluation compares with. None: it compares with the
            boxes in `records`.
        findings: sentences about what looks wrong in the data; training and evaluation log them as warnings.
    """

    records: Sequence[dict]
    class_names: list[str]
    category_ids: list[int]
    has_category_ids: bool = True
    anno_path: str | None = None
    findings: Sequence[str] = ()

    def __len__(self) -> int:
        """The number of records."""
        return len(self.records)

    def use_classes(self, names: Sequence[str]) -> None:
        """Number the classes in the order of `names`: the data set's class names, each once, in any order.

        Raises:
            ValueError: `names` has other names.
        """
        if list(names) == self.class_names:
            return
        if sorted(names) != sorted(self.class_names) or len(set(names)) < len(names):
            raise ValueError(f"expected the names {self.class_names}, each once, got {list(names)}")
        places = {name: place for place, name in enumerate(self.class_names)}
        order = [places[name] for name in names]
        self.class_names = list(names)
        self.category_ids = [self.category_ids[old] for old in order]
        self._renumber(np.argsort(order).astype(np.int32))

    def _renumber(self, new: np.ndarray) -> None:
        """Make class i class new[i] in all records."""
        if isinstance(self.records, Records):
            self.records.renumber(new)
            return
        for record in {id(record): record for record in self.records}.values():  # a repeated record is one object
            if "gt_class" in record:
                record["gt_class"] = new[record["gt_class"]]


def check_records(dataset: DetectionDataset, place: str) -> None:
    """Check every record against the description of `DetectionDataset.records`; meant for data sets from outside.

    Args:
        place: where a configuration names the data set, such as "TrainDataset".

    Raises:
        DataError: a record has another form. The message names it, and what was expected.
    """
    ids = set()
    for number, record in enumerate(dataset.records):
        problem = _problem(record, len(dataset.class_names)) if isinstance(record, dict) else "is no dict"
        if problem:
            what = type(dataset).__name__
            raise DataError(f"{place}: record {number} of {what} {problem} (docs/EXTENDING.md)")
        ids.add(record["im_id"].item())
    files = {record["im_file"] for record in dataset.records}
    if len(ids) < len(files):
        raise DataError(f"{place}: {len(files)} images share {len(ids)} values of im_id: each needs its own")


def _problem(record: dict, class_count: int) -> str:
    """What is wrong with a record; "" if nothing is."""
    boxes = record.get("gt_bbox")
    count = len(boxes) if isinstance(boxes, np.ndarray) else 0
    fields = {
        "im_id": ((1,), np.int64),
        "gt_bbox": ((count, 4), np.float32),
        "gt_class": ((count, 1), np.int32),
        "is_crowd": ((count, 1), np.int32),
    }
    for name, (shape, dtype) in fields.items():
        value = record.get(name)
        if value is None and name != "im_id":
            continue
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
            shown = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
            return f"has {name} {shown:.60}; expected a NumPy array {shape} of {dtype.__name__}"
    if not isinstance(record.get("im_file"), str):
        return f"has im_file {record.get('im_file')!r}; expected the path of an image, as text"
    if ("gt_bbox" in record) != ("gt_class" in record):
        return "has only one of gt_bbox and gt_class; expected both or neither"
    classes = record.get("gt_class", np.zeros(0))
    if ((classes < 0) | (classes >= class_count)).any():
        return f"has gt_class {classes.max()}; expected 0 to {class_count - 1}, the places in class_names"
    return ""


def require_boxes(dataset: DetectionDataset) -> None:
    """Raise DataError if the records of a training data set have no boxes."""
    if dataset.records and "gt_bbox" not in dataset.records[0]:
        raise DataError("TrainDataset.data_fields has no boxes: set it to [image, gt_bbox, gt_class, is_crowd]")


def join_path(folder: str | None, path: str | None) -> str:
    """Return `path`, relative to `folder`, as an absolute path; `~` is expanded. A URL loses a slash at its end."""
    if path and is_url(path):
        return path.rstrip("/")
    return os.path.abspath(os.path.join(os.path.expanduser(folder or ""), os.path.expanduser(path or "")))


def image_folder(dataset_dir: str | None, image_dir: str | None) -> str:
    """Return the images' folder, see `join_path`; DataError if it would be a subfolder of a URL."""
    if dataset_dir and is_url(dataset_dir) and not is_url(image_dir or ""):
        raise DataError(f"dataset_dir is {dataset_dir}: annotations are read from this disk; give image_dir the URL")
    return join_path(dataset_dir, image_dir)


def images_below(folder: str) -> list[str]:
    """Sorted paths or URLs of all images in a folder and its subfolders.

    Raises:
        DataError: there is no image, or no such folder.
    """
    if not is_url(folder):
        require_folder(folder)
        return find_images(folder)
    urls = [url for url in find_remote(folder) if is_image_name(url)]
    if not urls:
        raise no_image_error(folder)
    return urls


def require_folder(path: str) -> None:
    """Raise DataError, which says how to get the data, if the folder `path` does not exist."""
    if os.path.isdir(path):
        return
    raise DataError(
        f"data set folder {path} does not exist: {how_to_get(path, 'name yours')} with `-o TrainDataset.dataset_dir=…`"
        " (UnsupTrainDataset, EvalDataset, TestDataset alike)"
    )
