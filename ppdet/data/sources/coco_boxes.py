"""The boxes of a COCO file: which of them are used, and what looks wrong with them."""

import contextlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ppdet.data import data_checks
from ppdet.data.image_size import image_size
from ppdet.utils.boxes import have_area
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.formats.coco_file import Annotations

LOOKED_AT = 200  # images, at most, whose files are asked for their size while annotations are read
MOST_PIXELS = 1e9  # of a side: room for every image, and exact enough in every type


class Images(Protocol):
    """N images of a file: ids, names as the file has them, paths, and (N,) sizes in pixels."""

    ids: list[int]
    names: list[str]
    files: list[str]
    widths: np.ndarray
    heights: np.ndarray


class Boxes:
    """All usable boxes sorted by image: those of image i are rows starts[i] to starts[i + 1].

    They are not clipped to the right and below: how large an image is, the image says when it is read. is_full: (N,) of
    the images that are not empty.
    """

    def __init__(self, found: Annotations, images: Images, path: str, load_crowd: bool, for_evaluation: bool) -> None:
        unknown = np.flatnonzero(found.category < 0)
        if len(unknown):
            identity = found.category_ids[unknown[0]]
            raise DataError(f"{path}: an annotation has category_id {identity}, which no category has")
        found.require_boxes()
        self.total, self.for_evaluation = len(found), for_evaluation
        raw = found.xyxy
        xyxy = np.clip(raw, 0.0, MOST_PIXELS)
        numbers = np.isfinite(raw).all(axis=1)
        usable = have_area(xyxy) & numbers
        known = found.image >= 0
        # Training as PaddleDetection and MMDetection have it: load_crowd changes nothing for `ignore`. Evaluation as
        # pycocotools has it: boxes marked `ignore` are like any other, and an image of crowds alone is evaluated.
        ignored = known & found.ignore & (not for_evaluation)
        crowd = known & found.crowd & ~ignored & (not load_crowd)
        self.marked = ignored | crowd
        wanted = known & ~self.marked
        self.of_unknown_images = int((~known).sum())
        self.ignored, self.left_out_crowd = int(ignored.sum()), int(crowd.sum())
        self.dropped = int((wanted & ~usable).sum())

        chosen = np.flatnonzero(wanted & usable)
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
        """What looks wrong, a sentence each. What is marked, and so left out, may be without a box."""
        rows = np.flatnonzero(~self.marked)
        texts = []
        if len(rows) < self.total and not len(self.xyxy):
            undefined = ": AP is undefined (-1)" if self.for_evaluation else ""
            texts = [f"nothing is left of its {self.total} annotations: {self._marks()}{undefined}"]
        if len(rows) or not self.total:
            listed = data_checks.Boxes(found.xyxy[rows], found.image[rows], images.widths, images.heights, images.names)
            listed = _with_sizes_of_files(listed, images.files)
            texts += data_checks.box_findings(listed, [found.image_ids[row] for row in rows.tolist()])
        return texts

    def _marks(self) -> str:
        parts = []
        if self.left_out_crowd and self.for_evaluation:
            parts.append(f"{self.left_out_crowd} are marked iscrowd, in which detections count neither way")
        elif self.left_out_crowd:
            parts.append(f"left out {self.left_out_crowd} marked iscrowd, which load_crowd: true would keep")
        if self.ignored:
            parts.append(f"left out {self.ignored} marked ignore, which are never trained on")
        return ", ".join(parts)

    def report(self) -> str:
        parts = [f"{len(self.xyxy)} boxes"]
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


def _with_sizes_of_files(boxes: data_checks.Boxes, files: Sequence[str]) -> data_checks.Boxes:
    """The same with the sizes that images really have, where boxes leave them as the file has them.

    Decode tells of wrong sizes; they are no fault of the boxes. Of many such images a part is looked at.
    """
    suspects = np.unique(boxes.image[data_checks.leave_their_image(boxes)])
    looked_at = suspects[:: max(1, -(-len(suspects) // LOOKED_AT))]
    widths, heights = boxes.widths.copy(), boxes.heights.copy()
    for i in looked_at.tolist():
        with contextlib.suppress(ImageError):
            heights[i], widths[i] = image_size(files[i], (int(heights[i]), int(widths[i])))
    wrong = (widths != boxes.widths) | (heights != boxes.heights)
    if wrong.sum() > len(looked_at) / 2:  # then those of the others are not to be relied on
        others = np.setdiff1d(suspects, looked_at)
        widths[others] = heights[others] = int(MOST_PIXELS)
    return boxes._replace(widths=widths, heights=heights)
