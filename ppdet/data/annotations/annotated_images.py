"""Finding the images that annotation files name, and reading the boxes of each at the size of its file."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ppdet.data.annotations.image_index import ImageIndex, clean_parts
from ppdet.data.annotations.labeled_set import LabeledBox, LabeledImage, LabeledSet, Losses
from ppdet.data.header_size import image_size
from ppdet.utils.errors import ImageError
from ppdet.utils.logger import is_watched

EVALUATED = ("val", "test")  # parts of a data set that are not trained on


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
        if image.size and image.size != (width, height):
            losses.add("images whose size differs from that in the annotations, of which the image's is used", path)
        name = Path(os.path.relpath(path, common)).as_posix()
        read.append(ReadImage(path, name, (width, height), image.make_boxes((width, height)), image.split))
    return read


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
