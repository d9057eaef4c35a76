"""What every data set offers to readers, metrics and pictures."""

import os
from collections.abc import Sequence

import numpy as np

from ppdet.utils.errors import DataError
from ppdet.utils.shipped_data import how_to_get


class DetectionDataset:
    """A list of records and the classes they speak of.

    Attributes:
        records: one dict per image: `im_id` (1,) int64, `im_file` absolute path, `h`, `w` pixels (where
            known); where the data set has boxes and was asked for them, `gt_bbox` (M, 4) float32
            x1, y1, x2, y2 in pixels, `gt_class` (M, 1) int32 from 0, `is_crowd` (M, 1) int32.
            Transforms replace a record's arrays in their own copy of the dict; nothing may write into them.
        class_names: name of class 0, 1, …; category_ids: the COCO category id of class 0, 1, …
        has_category_ids: false where the classes come from a plain list of names; category_ids are 0, 1, … then.
        anno_path: absolute path of the annotation file, or None.
        findings: what looks wrong in that file, a sentence each, for those who build a data set to tell.
    """

    records: list[dict]
    class_names: list[str]
    category_ids: list[int]
    has_category_ids: bool = True
    anno_path: str | None
    findings: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.records)

    def use_classes(self, names: Sequence[str]) -> None:
        """Number the classes in the order of `names`: those of the data set, each once, in any order.

        Raises:
            ValueError: they are others.
        """
        if list(names) == self.class_names:
            return
        if sorted(names) != sorted(self.class_names) or len(set(names)) < len(names):
            raise ValueError(f"expected the names {self.class_names}, each once, got {list(names)}")
        order = [self.class_names.index(name) for name in names]
        self.class_names = list(names)
        self.category_ids = [self.category_ids[old] for old in order]
        self._renumber(np.argsort(order).astype(np.int32))

    def _renumber(self, new: np.ndarray) -> None:
        """Class i is class new[i] from now on: change the records that have classes."""


def join_path(folder: str | None, path: str | None) -> str:
    """`path` under `folder` as an absolute path; an absolute `path` stays, `~` is expanded."""
    return os.path.abspath(os.path.join(os.path.expanduser(folder or ""), os.path.expanduser(path or "")))


def require_folder(path: str) -> None:
    """Raises DataError, saying how to get the data, when the folder `path` does not exist."""
    if os.path.isdir(path):
        return
    raise DataError(
        f"data set folder {path} does not exist: {how_to_get(path, 'name yours')} with `-o TrainDataset.dataset_dir=…`"
        " (UnsupTrainDataset, EvalDataset, TestDataset alike)"
    )
