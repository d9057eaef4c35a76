"""What looks wrong with a data set, in one line each: what was found, an example, what it looks like, what to do.

These functions know arrays and lists alone. None of them reads images; `shared_images` compares files by content.
"""

import filecmp
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppdet.data.classes import listed

TOLERATED = 0.002  # share of unusable boxes that a large data set may have without a warning; the log line counts them
FEW_TO_TRAIN, FEW_TO_EVALUATE = 20, 10  # images
SMALLEST_SIDE = 1e-5  # pixels
MANY_LEAVE = 0.05  # share of boxes that leave their image, from which on they are told in any case
LARGE, NEARLY_ALL = 300, 90  # sides of images that show percent as such; what the largest percentages exceed


class Boxes(NamedTuple):
    """The annotations of a file, as they stand there.

    xyxy: (M, 4) float64 x, y, x + width, y + height; not finite where they are no numbers. image: (M,) position of
    their image, -1 where the file does not list it. widths, heights: (N,) of the images as the file has them. files:
    their N names.
    """

    xyxy: np.ndarray
    image: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    files: Sequence[str]

    def example(self, number: int) -> str:
        """Box `number` and its image, as the file has them."""
        x1, y1, x2, y2 = self.xyxy[number]
        box = ", ".join(f"{value:.6g}" for value in (x1, y1, x2 - x1, y2 - y1))
        image = self.image[number]
        return f"[{box}] in {self.files[image]!r} ({self.widths[image]} x {self.heights[image]} pixels)"


def box_findings(boxes: Boxes, image_ids: Sequence[int]) -> list[str]:
    """What looks wrong with a file's boxes; image_ids: (M,) as the annotations have them."""
    if not len(boxes.xyxy):
        return ["it has no annotations: nothing can be learned from it, and AP is undefined (-1)"]
    known = boxes.image >= 0
    found = [] if known.all() else [_of_unknown_images(known, image_ids)]
    listed_boxes = boxes._replace(xyxy=boxes.xyxy[known], image=boxes.image[known])
    usable = np.isfinite(listed_boxes.xyxy).all(axis=1) & (_sides(listed_boxes) > SMALLEST_SIDE).all(axis=1)
    good = listed_boxes._replace(xyxy=listed_boxes.xyxy[usable], image=listed_boxes.image[usable])
    order = in_other_order(good)  # that explains those outside as well
    if not order and not _outside(good).sum() > TOLERATED * len(usable):
        order = beyond_their_image(good)
    texts = (*found, unusable(listed_boxes, outside_too=not order), in_other_units(good), order)
    return [text for text in texts if text]


def _of_unknown_images(known: np.ndarray, image_ids: Sequence[int]) -> str:
    first = image_ids[int(np.argmin(known))]
    return (
        f"{(~known).sum()} of {len(known)} annotations belong to images that the file does not list, e.g. image_id "
        f"{first}: they are left out. Do its images and annotations come from different files?"
    )


def unusable(boxes: Boxes, *, outside_too: bool) -> str | None:
    """Boxes that nothing can be learned from: no numbers, without area, and with outside_too outside of their image."""
    numbers = np.isfinite(boxes.xyxy).all(axis=1)
    area = numbers & (_sides(boxes) > SMALLEST_SIDE).all(axis=1)
    outside = area & _outside(boxes) & outside_too
    kinds = {"null or not numbers": ~numbers, "without area": numbers & ~area, "outside of their image": outside}
    wrong = ~area | outside
    if not wrong.sum() > TOLERATED * len(wrong):
        return None
    counts = ", ".join(f"{mask.sum()} {kind}" for kind, mask in kinds.items() if mask.any())
    leave = leave_their_image(boxes) & area & ~outside
    more = f"; {leave.sum()} more reach far beyond it" if outside.any() and _are_many(leave) else ""
    larger = ". Is y before x, or are they those of larger copies of the images?" if outside.mean() > 0.1 else ""
    return (
        f"{wrong.sum()} of {len(wrong)} boxes cannot be used ({counts}){more}, e.g. "
        f"{boxes.example(int(np.argmax(wrong)))}: expected [x, y, width, height] in pixels, within the image's width "
        f"and height{larger}"
    )


def in_other_units(boxes: Boxes) -> str | None:
    """Boxes in shares, or in percent, of the image."""
    if not len(boxes.xyxy):
        return None
    low, largest = boxes.xyxy.min(), boxes.xyxy[:, 2:].max(axis=0)
    values = np.concatenate([boxes.xyxy[:, :2], _sides(boxes)], axis=1)
    shares = (values <= 1.01).all(axis=1)  # rounding may go a little beyond the image
    large_images = min(boxes.widths[boxes.image].min(), boxes.heights[boxes.image].min()) >= LARGE
    # A single pixel at the top left may be an object, many of them are none.
    if shares.all() or shares.sum() > max(2, 0.01 * len(shares)):
        count, unit, factor = int(shares.sum()), "0..1, as shares of the image", ""
    elif large_images and len(boxes.xyxy) >= 20 and low >= 0 and NEARLY_ALL < largest.min() <= largest.max() < 100.5:
        count, unit, factor = len(boxes.xyxy), "0..100, as percent of the image", ", divided by 100"
    else:
        return None
    return (
        f"{count} of {len(boxes.xyxy)} boxes lie in {unit}, e.g. {boxes.example(int(np.argmax(shares)))}: COCO's are "
        f"in pixels: multiply by the image's width and height{factor} (YOLO's x and y are those of the box's middle)"
    )


def in_other_order(boxes: Boxes) -> str | None:
    """Boxes that are no [x, y, width, height]: many leave their image, and read in another way nearly none would."""
    leave = leave_their_image(boxes)
    count, total = int(leave.sum()), len(leave)
    limits = np.stack([boxes.widths, boxes.heights], axis=1)[boxes.image]
    values = np.concatenate([boxes.xyxy[:, :2], _sides(boxes)], axis=1)
    first, second = values[:, :2], values[:, 2:]
    # Share and number of boxes that a reading has to explain. Corners are told by their order, too.
    readings = {
        "[x1, y1, x2, y2]": (0.1, 1, lambda: (first, second)),
        "[middle x, middle y, width, height]": (0.03, 3, lambda: (first - second / 2, first + second / 2)),
        "[y1, x1, y2, x2]": (0.03, 3, lambda: (values[:, [1, 0]], values[:, [3, 2]])),
        "[x1, x2, y1, y2]": (0.03, 3, lambda: (values[:, [0, 2]], values[:, [1, 3]])),
        "[y, x, height, width]": (0.03, 3, lambda: (values[:, [1, 0]], values[:, [1, 0]] + values[:, [3, 2]])),
    }
    for name, (share, least, read) in readings.items():
        low, high = read()
        fit = ((low >= -1) & (high <= limits + 1) & (high > low)).all(axis=1)
        explained = int((leave & fit).sum())
        if explained >= max(least, share * total) and (~fit).sum() <= max(total >= 10, 0.01 * total):
            return (
                f"the boxes look like {name}: read as [x, y, width, height], as COCO's are, {count} of {total} leave "
                f"their image, e.g. {boxes.example(int(np.argmax(leave)))}; read as {name}, {(~fit).sum()}: convert "
                "them"
            )
    return None


def beyond_their_image(boxes: Boxes) -> str | None:
    """Many boxes that leave their image, whatever they may be."""
    leave = leave_their_image(boxes)
    if not _are_many(leave):
        return None
    return (
        f"{leave.sum()} of {len(leave)} boxes reach far beyond their image, e.g. "
        f"{boxes.example(int(np.argmax(leave)))}: they are clipped to it; expected [x, y, width, height] in pixels: "
        "are some of them corners, middles, or y before x?"
    )


def leave_their_image(boxes: Boxes) -> np.ndarray:
    """(M,) bool: boxes that reach beyond their image by more than those who draw them do by mistake."""
    if not len(boxes.widths):
        return np.zeros(len(boxes.xyxy), bool)
    limits = np.stack([boxes.widths, boxes.heights], axis=1)[boxes.image]
    slack = 0.02 * limits + 2
    with np.errstate(invalid="ignore"):
        leave = ((boxes.xyxy[:, 2:] > limits + slack) | (boxes.xyxy[:, :2] < -slack)).any(axis=1)
    return leave & (boxes.image >= 0) & np.isfinite(boxes.xyxy).all(axis=1)


def _are_many(leave: np.ndarray) -> bool:
    return bool(leave.sum() >= max(2, MANY_LEAVE * len(leave)))


def _sides(boxes: Boxes) -> np.ndarray:
    """(M, 2) width, height."""
    with np.errstate(invalid="ignore"):
        return boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]


def _outside(boxes: Boxes) -> np.ndarray:
    limits = np.stack([boxes.widths, boxes.heights], axis=1)[boxes.image].reshape(-1, 2)
    return ~((boxes.xyxy[:, :2] < limits).all(axis=1) & (boxes.xyxy[:, 2:] > 0).all(axis=1))


def class_findings(names: Sequence[str], category_ids: Sequence[int], counts: np.ndarray, effect: str) -> list[str]:
    """Classes without a box, and classes of the same name.

    Args:
        counts: boxes of each class. effect: what it means to have none.
    """
    found = []
    empty = [name for name, count in zip(names, counts) if not count]
    if empty and len(empty) < len(names):
        found.append(f"{len(empty)} of {len(names)} classes have no box: {listed(empty)}: {effect}")
    twice = (
        next((name for name in names if list(names).count(name) > 1), None) if len(set(names)) < len(names) else None
    )
    if twice is not None:
        ids = [str(identity) for name, identity in zip(names, category_ids) if name == twice]
        found.append(
            f"categories {', '.join(ids)} are all called {twice!r}: each of them is a class of its own; give them one "
            "id if they mean the same"
        )
    return found


def few_images(count: int, *, training: bool) -> str | None:
    """That there are too few images to learn from, or to say how good a detector is."""
    if count >= (FEW_TO_TRAIN if training else FEW_TO_EVALUATE):
        return None
    images = f"{count} image{'s' * (count != 1)}"
    if training:
        return f"only {images} to train on: a detector learns them by heart; to see that all works that is enough"
    return f"only {images} to evaluate on: AP can be far from what it would be on more of them"


def shared_images(ours: Sequence[str], others: Sequence[str]) -> tuple[int, str | None]:
    """Images of one data set that another one has, too: how many, and the path of one of them.

    The same path counts, whatever links lead there, and so does a file of the same name and content elsewhere. All are
    compared; the content of files of the same name and size alone is read.
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
    """The path without links among its folders; each folder is looked up once."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _is_copy(path: str, other: str) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False
