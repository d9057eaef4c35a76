"""Checks for mistakes in a data set. Each finding is one line: what is wrong, an example, the likely cause, what to do.

The functions work on arrays and lists, and read no images; only `shared_images` compares the content of files.
"""

import filecmp
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ppdet.data.classes import quote_names
from ppdet.utils.boxes import have_area, to_sizes
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.printable import counted

TOLERATED = 0.002  # share of unusable boxes without a warning; the log line of the data set counts them anyway
FEW_TO_TRAIN, FEW_TO_EVALUATE = 20, 10  # images; with fewer there is a warning
MANY_EXCEED = 0.05  # warn if a larger share of boxes exceeds its image
UNUSABLE = "boxes cannot be used"  # in the finding of `unusable`
LARGE = 300  # pixels; if all images are larger, boxes that stay below 100 look like percentages


MOST_LISTED = 8  # ids in a message


@dataclass(frozen=True)
class RawBoxes:
    """The M annotations of a file and its N images, unchecked.

    Attributes:
        xyxy: (M, 4) float64 x, y, x + width, y + height; not finite if they are not numbers.
        image: (M,) position of the image among the N images, -1 if the file does not list it.
        widths: (N,) of the images, in pixels.
        heights: (N,) of the images, in pixels.
        files: names of the images.
    """

    xyxy: np.ndarray
    image: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    files: Sequence[str]

    @cached_property
    def xywh(self) -> np.ndarray:
        """(M, 4) x, y, width, height."""
        return to_sizes(self.xyxy)

    @cached_property
    def limits(self) -> np.ndarray:
        """(M, 2) width and height of each box's image."""
        return np.stack([self.widths, self.heights], axis=1)[self.image].reshape(-1, 2)

    @cached_property
    def are_finite(self) -> np.ndarray:
        """(M,) bool, whether all four coordinates are finite numbers."""
        return np.isfinite(self.xyxy).all(axis=1)

    @cached_property
    def exceed_their_image(self) -> np.ndarray:
        """(M,) bool, whether a box exceeds its image by more than an annotator's hand does: by 2 pixels and 2 %."""
        if not len(self.widths):
            return np.zeros(len(self.xyxy), bool)
        slack = 0.02 * self.limits + 2
        with np.errstate(invalid="ignore"):
            exceeding = ((self.xyxy[:, 2:] > self.limits + slack) | (self.xyxy[:, :2] < -slack)).any(axis=1)
        return exceeding & (self.image >= 0) & self.are_finite

    def rows(self, mask: np.ndarray) -> "RawBoxes":
        """Only the boxes of a mask (M,)."""
        return self if mask.all() else replace(self, xyxy=self.xyxy[mask], image=self.image[mask])

    def example(self, number: int) -> str:
        """Describe box `number` and its image as in the file: "[x, y, width, height] in 'name' (w x h pixels)"."""
        box = ", ".join(f"{value:.6g}" for value in self.xywh[number])
        image = self.image[number]
        return f"[{box}] in {short_repr(self.files[image])} ({self.widths[image]} x {self.heights[image]} pixels)"


def box_findings(boxes: RawBoxes, image_ids: Sequence[int]) -> list[str]:
    """Check the boxes of a file.

    Args:
        image_ids: (M,) `image_id` of the annotations.
    """
    if not len(boxes.xyxy):
        return ["it has no annotations: nothing can be learned from it, and AP is undefined (-1)"]
    known = boxes.image >= 0
    strays = "" if known.all() else _stray_annotations(known, image_ids)
    listed_boxes = boxes.rows(known)
    usable = listed_boxes.are_finite & have_area(listed_boxes.xyxy)
    good = listed_boxes.rows(usable)
    order = in_other_order(good)  # explains boxes outside of their image as well
    if not order and not _outside(good).sum() > TOLERATED * len(usable):
        order = exceeding_boxes(good)
    texts = (strays, unusable(listed_boxes, count_outside=not order), in_other_units(good), order)
    return [text for text in texts if text]


def _stray_annotations(known: np.ndarray, image_ids: Sequence[int]) -> str:
    first = image_ids[int(np.argmin(known))]
    return (
        f"{(~known).sum()} of {len(known)} annotations belong to images that the file does not list, e.g. image_id "
        f"{first}: they are left out. Do its images and annotations come from different files?"
    )


def unusable(boxes: RawBoxes, *, count_outside: bool) -> str | None:
    """Find boxes that cannot be learned from: no numbers, no area, or, with count_outside, outside of their image."""
    numbers = boxes.are_finite
    area = numbers & have_area(boxes.xyxy)
    outside = area & _outside(boxes) if count_outside else np.zeros(len(area), bool)
    kinds = {"null or not numbers": ~numbers, "without area": numbers & ~area, "outside of their image": outside}
    wrong = ~area | outside
    if not wrong.sum() > TOLERATED * len(wrong):
        return None
    counts = ", ".join(f"{mask.sum()} {kind}" for kind, mask in kinds.items() if mask.any())
    exceeding = boxes.exceed_their_image & area & ~outside
    more = f"; {exceeding.sum()} more reach far beyond it" if outside.any() and _are_many(exceeding) else ""
    larger = ". Is y before x, or were they drawn on larger copies of the images?" if outside.mean() > 0.1 else ""
    return (
        f"{wrong.sum()} of {len(wrong)} boxes cannot be used ({counts}){more}, e.g. "
        f"{boxes.example(int(np.argmax(wrong)))}: expected [x, y, width, height] in pixels, within the image's width "
        f"and height{larger}"
    )


def in_other_units(boxes: RawBoxes) -> str | None:
    """Find boxes that are given as shares of the image's size, from 0 to 1, or in percent."""
    if not len(boxes.xyxy):
        return None
    low, largest = boxes.xyxy.min(), boxes.xyxy[:, 2:].max(axis=0)
    shares = np.asarray((boxes.xywh <= 1.01).all(axis=1))  # rounding may exceed the image a little
    large_images = boxes.limits.min() >= LARGE
    # A single pixel at the top left may be an object, but not many of them.
    if shares.all() or shares.sum() > max(2, 0.01 * len(shares)):
        count, unit, factor = int(shares.sum()), "0..1, as shares of the image", ""
    elif large_images and len(boxes.xyxy) >= 20 and low >= 0 and 90 < largest.min() <= largest.max() < 100.5:
        count, unit, factor = len(boxes.xyxy), "0..100, as percent of the image", ", divided by 100"
    else:
        return None
    return (
        f"{count} of {len(boxes.xyxy)} boxes lie in {unit}, e.g. {boxes.example(int(np.argmax(shares)))}: COCO's are "
        f"in pixels: multiply by the image's width and height{factor} (YOLO's x and y are the box's center)"
    )


def in_other_order(boxes: RawBoxes) -> str | None:
    """Find boxes in another order than [x, y, width, height], in which fewer of them exceed their image."""
    exceeding = boxes.exceed_their_image
    count, total = int(exceeding.sum()), len(exceeding)
    limits, values = boxes.limits, boxes.xywh
    first, second = values[:, :2], values[:, 2:]
    # The share and the number of boxes that must exceed their image, and no longer do when read in this way.
    readings = {
        "[x1, y1, x2, y2]": (0.1, 1, lambda: (first, second)),
        "[middle x, middle y, width, height]": (0.03, 3, lambda: (first - second / 2, first + second / 2)),
        "[y1, x1, y2, x2]": (0.03, 3, lambda: (values[:, [1, 0]], values[:, [3, 2]])),
        "[x1, x2, y1, y2]": (0.03, 3, lambda: (values[:, [0, 2]], values[:, [1, 3]])),
        "[y, x, height, width]": (0.03, 3, lambda: (values[:, [1, 0]], values[:, [1, 0]] + values[:, [3, 2]])),
    }
    for name, (share, least, read) in readings.items():
        needed = max(least, share * total)
        if count < needed:
            continue
        low, high = read()
        fit = ((low >= -1) & (high <= limits + 1) & (high > low)).all(axis=1)
        explained = int((exceeding & fit).sum())
        if explained >= needed and (~fit).sum() <= max(total >= 10, 0.01 * total):
            example = boxes.example(int(np.argmax(exceeding)))
            return (
                f"the boxes look like {name}: read as [x, y, width, height], as COCO's are, {count} of {total} leave "
                f"their image, e.g. {example}; read as {name}, {(~fit).sum()}: convert them"
            )
    return None


def exceeding_boxes(boxes: RawBoxes) -> str | None:
    """Find many boxes that exceed their image, for whatever reason."""
    exceeding = boxes.exceed_their_image
    if not _are_many(exceeding):
        return None
    return (
        f"{exceeding.sum()} of {len(exceeding)} boxes reach far beyond their image, e.g. "
        f"{boxes.example(int(np.argmax(exceeding)))}: they are clipped to it; expected [x, y, width, height] in "
        "pixels: are some of them corners, middles, or y before x?"
    )


def _are_many(exceeding: np.ndarray) -> bool:
    return bool(exceeding.sum() >= max(2, MANY_EXCEED * len(exceeding)))


def _outside(boxes: RawBoxes) -> np.ndarray:
    """(M,) bool, whether no part of a box is inside of its image."""
    is_left_or_above = (boxes.xyxy[:, 2:] <= 0).any(axis=1)
    return np.asarray(is_left_or_above | (boxes.xyxy[:, :2] >= boxes.limits).any(axis=1))


def class_findings(names: Sequence[str], category_ids: Sequence[int], counts: np.ndarray, effect: str) -> list[str]:
    """Find classes without a box, and classes with the same name.

    Args:
        names: names of the classes.
        category_ids: their ids in the file.
        counts: number of boxes of each class.
        effect: what follows for a class without a box, for the message.
    """
    findings = []
    empty = [name for name, count in zip(names, counts) if not count]
    if empty and len(empty) < len(names):
        findings.append(f"{len(empty)} of {len(names)} classes have no box: {quote_names(empty)}: {effect}")
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        ids = [str(identity) for name, identity in zip(names, category_ids) if name == repeated]
        more = f" and {len(ids) - MOST_LISTED} more" if len(ids) > MOST_LISTED else ""
        findings.append(
            f"categories {', '.join(ids[:MOST_LISTED])}{more} are all called {short_repr(repeated)}: each of them is a "
            "separate class; give them one id if they mean the same"
        )
    return findings


def few_images(count: int, *, training: bool) -> str | None:
    """Find that there are too few images to learn from, or to measure how good a detector is."""
    if count >= (FEW_TO_TRAIN if training else FEW_TO_EVALUATE):
        return None
    images = counted(count, "image")
    if training:
        return f"only {images} to train on: a detector memorizes them; that is enough to see that everything works"
    return f"only {images} to evaluate on: AP may be far from its value on more images"


def shared_images(ours: Sequence[str], others: Sequence[str]) -> tuple[int, str | None]:
    """Find images that two data sets share. Return their number and the path of one of them.

    Images are the same if their paths are, with links resolved, or if two files have the same name and content. The
    content is compared only if the sizes of the files are equal.
    """
    folders: dict[str, str] = {}
    known = {_resolved(path, folders) for path in others}
    names = {os.path.basename(path) for path in ours}
    by_name: dict[str, list[str]] = {}
    for path in dict.fromkeys(others):
        if os.path.basename(path) in names:
            by_name.setdefault(os.path.basename(path), []).append(path)
    shared = [
        path
        for path in dict.fromkeys(ours)
        if _resolved(path, folders) in known
        or any(_is_copy(path, other) for other in by_name.get(os.path.basename(path), ()))
    ]
    return len(shared), shared[0] if shared else None


def _resolved(path: str, folders: dict[str, str]) -> str:
    """Resolve links in the folders of a path; `folders` caches the result for each folder."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _is_copy(path: str, other: str) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False
