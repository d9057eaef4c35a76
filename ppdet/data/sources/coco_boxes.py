"""Selecting the boxes of a COCO file that are used, and finding what looks wrong with them."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from ppdet.data import data_checks
from ppdet.data.header_size import image_size
from ppdet.utils.boxes import have_area
from ppdet.utils.errors import ImageError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.printable import counted

MAX_FILES = 200  # image files whose size is read while annotations are checked
MAX_SIDE = 1e9  # pixels of a side: enough for every image, and exact in float32 arithmetic to less than a box needs


class Images(Protocol):
    """The N images of a COCO file: ids, file names, paths, and widths and heights (N,) in pixels."""

    ids: list[int]
    names: list[str]
    files: list[str]
    widths: np.ndarray
    heights: np.ndarray


class UsableBoxes:
    """The usable boxes of a COCO file, sorted by image.

    They are not clipped to the right and bottom side of their images, whose true size is known when they are read.

    Args:
        found: the annotations of the file.
        images: the images of the file.
        load_crowd: keep boxes marked iscrowd.
        for_evaluation: see COCODataSet.

    Attributes:
        xyxy: (K, 4) float32 x1, y1, x2, y2 in pixels.
        classes: (K, 1) int32.
        crowd: (K, 1) int32.
        starts: (N + 1,) the boxes of image i are rows starts[i] to starts[i + 1].
        is_full: (N,) bool, whether an image has a box.
    """

    def __init__(self, found: Annotations, images: Images, load_crowd: bool, for_evaluation: bool) -> None:
        found.require_known_categories()
        found.require_boxes()
        self.total, self.for_evaluation = len(found), for_evaluation
        raw = found.xyxy
        xyxy = np.clip(raw, 0.0, MAX_SIDE)
        numbers = np.isfinite(raw).all(axis=1)
        usable = have_area(xyxy) & numbers
        known = found.image >= 0
        # Training follows PaddleDetection and MMDetection: load_crowd does not affect `ignore`. Evaluation follows
        # pycocotools: boxes marked `ignore` are like all others, and an image with nothing but crowds is evaluated.
        ignored = known & found.ignore & (not for_evaluation)
        crowd = known & found.crowd & ~ignored & (not load_crowd)
        self.marked = ignored | crowd
        is_kept = known & ~self.marked
        self.of_unknown_images = int((~known).sum())
        self.ignored, self.left_out_crowd = int(ignored.sum()), int(crowd.sum())
        self.dropped = int((is_kept & ~usable).sum())

        chosen = np.flatnonzero(is_kept & usable)
        chosen = chosen[np.argsort(found.image[chosen], kind="stable")]
        self.xyxy = xyxy[chosen].astype(np.float32)
        self.classes = found.category[chosen].astype(np.int32)[:, None]
        self.crowd = found.crowd[chosen].astype(np.int32)[:, None]
        image = found.image[chosen]
        self.starts = np.searchsorted(image, np.arange(len(images.ids) + 1))
        full = found.image[known & numbers] if for_evaluation else image
        self.is_full = np.bincount(full, minlength=len(images.ids)) > 0
        limits = np.stack([images.widths, images.heights] * 2, axis=1)[image]
        self.beyond = int((np.abs(np.clip(raw[chosen], 0, limits) - raw[chosen]) > 0.01).any(axis=1).sum())

    def findings(self, found: Annotations, images: Images) -> list[str]:
        """One sentence for each thing that looks wrong. Annotations that are left out as marked need no valid box."""
        rows = np.flatnonzero(~self.marked)
        texts = []
        if len(rows) < self.total and not len(self.xyxy):
            undefined = ": AP is undefined (-1)" if self.for_evaluation else ""
            texts = [f"nothing is left of its {self.total} annotations: {self._marks()}{undefined}"]
        if len(rows) or not self.total:
            sizes = images.widths, images.heights
            listed = data_checks.RawBoxes(found.xyxy[rows], found.image[rows], *sizes, images.names)
            listed = _with_sizes_of_files(listed, images.files)
            texts += data_checks.box_findings(listed, found.image_ids[rows].tolist())
        return texts

    def _marks(self) -> str:
        parts = []
        if self.left_out_crowd and self.for_evaluation:
            parts.append(f"{self.left_out_crowd} are marked iscrowd; detections in crowd boxes are ignored")
        elif self.left_out_crowd:
            parts.append(f"left out {self.left_out_crowd} marked iscrowd, which load_crowd: true would keep")
        if self.ignored:
            parts.append(f"left out {self.ignored} marked ignore, which are never trained on")
        return ", ".join(parts)

    def report(self) -> str:
        """What is used and what is left out, in one line for the log."""
        parts = [counted(len(self.xyxy), "box")]
        if self.dropped:
            dropped = "" if self.for_evaluation else "dropped "  # evaluation counts those without area as missed
            parts.append(f"{dropped}{self.dropped} without area, outside or not numbers")
        if self.marked.any():
            parts.append(self._marks())
        if self.beyond:
            parts.append(f"{self.beyond} reach beyond their image's width and height (clipped when the image is read)")
        if self.of_unknown_images:
            parts.append(f"ignored {self.of_unknown_images} annotations of images not in the file")
        return ", ".join(parts)


def _with_sizes_of_files(boxes: data_checks.RawBoxes, files: Sequence[str]) -> data_checks.RawBoxes:
    """The boxes with the true sizes of those images that, by the size in the file, do not contain their boxes.

    Wrong sizes are reported by Decode, and are not the boxes' fault. Of many such images, some are checked.
    """
    suspects = np.unique(boxes.image[boxes.exceed_their_image])
    checked = suspects[:: max(1, -(-len(suspects) // MAX_FILES))]
    widths, heights = boxes.widths.copy(), boxes.heights.copy()
    for i in checked.tolist():
        with contextlib.suppress(ImageError):
            heights[i], widths[i] = image_size(files[i], (int(heights[i]), int(widths[i])))
    wrong = (widths != boxes.widths) | (heights != boxes.heights)
    if wrong.sum() > len(checked) / 2:  # then the sizes of the others are not reliable either
        others = np.setdiff1d(suspects, checked)
        widths[others] = heights[others] = int(MAX_SIDE)
    return replace(boxes, widths=widths, heights=heights) if wrong.any() else boxes
