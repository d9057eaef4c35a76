"""Records of data sets of any size, kept as a few arrays, which worker processes share without copies."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from ppdet.utils.packed_texts import PackedTexts


class Records(Sequence[dict]):
    """The records of a data set, see `DetectionDataset.records`. Each is made when it is asked for.

    A list of dicts would take more than a kilobyte per image, and every worker process would get copies of it: whoever
    reads an object of Python writes its reference count, and the system then copies the page.

    Args:
        ids: (N,) int64, im_id of each image.
        files: (N,) im_file of each image.
        sizes: (N, 2) int64 heights and widths in pixels; None: records have no h and w.
        starts: (N + 1,) the boxes of image i are rows starts[i] to starts[i + 1] of `boxes`; None without boxes.
        boxes: fields with one row for each box, such as gt_bbox.
        kept: (K,) positions of the images that have a record, in the order of the records, each as often as it comes;
            None for all.
    """

    def __init__(
        self,
        *,
        ids: np.ndarray,
        files: Sequence[str],
        sizes: np.ndarray | None = None,
        starts: np.ndarray | None = None,
        boxes: dict[str, np.ndarray] | None = None,
        kept: np.ndarray | None = None,
    ) -> None:
        self._ids = np.asarray(ids, dtype=np.int64)
        self._files = PackedTexts.of(files)
        self._sizes = sizes
        self._starts = starts
        self._boxes = boxes or {}
        self._kept = np.arange(len(self._ids)) if kept is None else kept

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> "Records": ...
    def __getitem__(self, place: int | slice) -> "dict[str, Any] | Records":
        if isinstance(place, slice):
            some = object.__new__(Records)
            some.__dict__.update(self.__dict__, _kept=self._kept[place])
            return some
        image = int(self._kept[place])
        record: dict[str, Any] = {"im_id": self._ids[image : image + 1], "im_file": self._files[image]}
        if self._sizes is not None:
            record["h"], record["w"] = self._sizes[image].tolist()
        if self._starts is not None:
            span = slice(self._starts[image], self._starts[image + 1])
            record.update((name, rows[span]) for name, rows in self._boxes.items())
        return record

    def renumber(self, new: np.ndarray) -> None:
        """Make class i class new[i] in all records."""
        if "gt_class" in self._boxes:
            self._boxes = {**self._boxes, "gt_class": new[self._boxes["gt_class"]]}
