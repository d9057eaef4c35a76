"""Finding the images that annotation files name, and reading the boxes of each at the size of its file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ppdet.data.annotations.image_index import UNREAD_FORMAT, ImageIndex, clean_parts
from ppdet.data.annotations.labeled_set import DECIMALS, LabeledBox, LabeledImage, LabeledSet, Losses
from ppdet.data.header_size import image_size
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import is_watched

EVALUATED = ("val", "test")  # parts of a data set that are not trained on
IN_PIXELS = ("segmentation", "keypoints")  # other fields of a COCO annotation that an image's size changes
OTHER_SIZE = "images of another size than in the annotations, whose boxes were left as they are: look whether they fit"
MOSTLY_OUTSIDE = "images with boxes that are mostly outside of them, as if drawn at another size"


@dataclass
class ReadImage:
    """An image whose boxes were read.

    path: its file, None if no image file is there. name: its file_name. size: (width, height). split: the tool's part.
    """

    path: str | None
    name: str
    size: tuple[int, int]
    boxes: list[LabeledBox]
    split: str


def read_images(labeled: LabeledSet, index: ImageIndex, losses: Losses) -> list[ReadImage]:
    """Find each image and read its boxes. If not one image file is there, names and sizes are the annotations'."""
    chosen: dict[str, LabeledImage] = {}  # by the path of the file
    missing: list[tuple[LabeledImage, str]] = []
    for image in labeled.images:
        path, reason = index.find(image)
        if path is None:
            missing.append((image, reason))
        else:
            chosen[path] = _one_of(chosen[path], image, losses) if path in chosen else image
    found = [(image, path) for path, image in chosen.items()]
    if not found:
        for path in index.unread:
            losses.add(UNREAD_FORMAT, path)
        return _without_files(missing, losses)
    for image, reason in missing:
        losses.add(reason, f"{image.name} ({image.near})")
    common = os.path.commonpath([os.path.dirname(path) for _, path in found])
    read = []
    for image, path in progress_of(found, "read images"):
        expected = (image.size[1], image.size[0]) if image.size else None
        try:
            height, width = image_size(path, expected)
        except ImageError as error:
            losses.add("image files that cannot be read left out", str(error))
            continue
        name = Path(os.path.relpath(path, common)).as_posix()
        boxes = _boxes_of(image, path, (width, height), losses)
        read.append(ReadImage(path, name, (width, height), boxes, image.split))
    return read


def _boxes_of(image: LabeledImage, path: str, size: tuple[int, int], losses: Losses) -> list[LabeledBox]:
    """The boxes of an image whose file has this (width, height), which may have been resized since it was labeled."""
    boxes = image.make_boxes(size)
    if image.size and image.size != size:
        is_resized = _is_resized(image.size, size)
        # Boxes beyond the size that the annotations state were not drawn at that size: it is wrong, not the boxes.
        fits = all(x + w <= image.size[0] + 1 and y + h <= image.size[1] + 1 for _, (x, y, w, h), _ in boxes)
        if is_resized and fits and not image.in_shares:
            losses.add("images of another size than in the annotations, to which their boxes were scaled", path)
            boxes = _scaled(boxes, size[0] / image.size[0], size[1] / image.size[1], path, losses)
        elif not (is_resized and image.in_shares):
            losses.add(OTHER_SIZE, path)
    outside = sum(_share_inside(box, size) < 0.5 for box in boxes)
    if outside:
        losses.add(MOSTLY_OUTSIDE, f"{path}: {outside} of {len(boxes)} boxes")
    return boxes


def _is_resized(labeled: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether an image has its shape still, up to rounding to a pixel, but is larger or smaller by more than that."""
    width, height = (side * other / whole for side, other, whole in zip(labeled, size[::-1], labeled[::-1]))
    is_other = max(abs(size[0] - labeled[0]), abs(size[1] - labeled[1])) > 1
    return is_other and min(abs(size[0] - width), abs(size[1] - height)) <= 1


def _scaled(boxes: list[LabeledBox], across: float, down: float, path: str, losses: Losses) -> list[LabeledBox]:
    """The boxes with sides multiplied by two factors, without other fields that are in pixels."""
    scaled = []
    for label, (x, y, width, height), more in boxes:
        if any(more.get(key) for key in IN_PIXELS):
            losses.add("masks and keypoints of boxes that were scaled left out", path)
        rest = {key: value for key, value in more.items() if key not in IN_PIXELS}
        x, y = round(x * across, DECIMALS), round(y * down, DECIMALS)
        width, height = round(width * across, DECIMALS), round(height * down, DECIMALS)
        scaled.append(LabeledBox(label, (x, y, width, height), rest))
    return scaled


def _share_inside(box: LabeledBox, size: tuple[int, int]) -> float:
    """The share of a box's area that is inside of the image; 1 for a box without area."""
    x, y, width, height = box.xywh
    inside = max(0.0, min(x + width, size[0]) - max(x, 0)) * max(0.0, min(y + height, size[1]) - max(y, 0))
    return inside / (width * height) if width * height > 0 else 1.0


def _one_of(first: LabeledImage, other: LabeledImage, losses: Losses) -> LabeledImage:
    """Of two annotations of one image, the one for evaluation if only one is, as in `data check --fix`; else the first.

    Images that are trained on and evaluated make an evaluation look better than the detector is.
    """
    kept, left = (other, first) if other.split in EVALUATED and first.split not in EVALUATED else (first, other)
    reason = "annotations of an image that has others already left out"
    if kept.split in EVALUATED and left.split not in EVALUATED:
        reason = f"images that {kept.split} has too left out of {left.split or 'the images without a part'}"
    losses.add(reason, f"{left.near} ({left.name})")
    return kept


def _without_files(missing: Sequence[tuple[LabeledImage, str]], losses: Losses) -> list[ReadImage]:
    """Read annotations alone."""
    read = []
    names: set[tuple[str, str]] = set()  # a tool writes each part with names of its own
    for image, reason in missing:
        parts = clean_parts(image.name)
        while len(parts) > 1 and parts[0].lower() == "images":
            parts = parts[1:]
        name = "/".join(parts)
        if image.size is None:
            reason = "images without a file, whose size the annotations do not say either, left out"
        elif (image.near, name) in names:
            reason = "annotations of an image that has others already left out"
        elif parts:
            names.add((image.near, name))
            read.append(ReadImage(None, name, image.size, image.make_boxes(image.size), image.split))
            continue
        losses.add(reason, f"{image.name} ({image.near})")
    return read


def progress_of(items: Sequence, title: str) -> Iterable:
    """Iterate over the items, with a progress bar on a terminal."""
    return tqdm(items, desc=title, unit="image", leave=False, disable=not is_watched())
