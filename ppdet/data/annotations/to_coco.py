"""Converting a folder of a labelling tool to a data set in COCO's format, split into parts."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ppdet.data.annotations.annotated_images import ReadImage, progress_of, read_images
from ppdet.data.annotations.conversion_folders import check_folders
from ppdet.data.annotations.image_index import ImageIndex
from ppdet.data.annotations.labeled_set import LARGEST_OF_IMAGE, Losses, class_order
from ppdet.data.annotations.near_duplicates import groups as groups_of_similar
from ppdet.data.annotations.parsing import text_of
from ppdet.data.annotations.recognition import read_annotations
from ppdet.data.annotations.sides import NAMES, shares_of, split_groups
from ppdet.data.sources.dataset import join_path
from ppdet.utils.disk.files import atomic_path, copy_file, lines_of, write_json
from ppdet.utils.disk.folders import whole_folder
from ppdet.utils.disk.images import files_below, is_image_name
from ppdet.utils.errors import DataError
from ppdet.utils.extras import require_extras
from ppdet.utils.formats.coco_file import clean_name
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
FILES = (*NAMES, "all", "unsplit")  # names of the files that a conversion writes
PLACES = ("copy", "link", "keep")  # what becomes of the image files
LEFT_OUT = "left_out.txt"


@dataclass
class Conversion:
    """What was written.

    Attributes:
        kind: the tool's format.
        classes: names in the order of the category ids 1, 2, …
        image_dir: the folder to which file names are relative.
        counts: for each annotation file: the number of images, and the number of boxes of each class.
        losses: what was left out or changed.
        similar: numbers of images that were kept on one side with similar ones.
        has_images: whether the image files are there.
        left_out: the file that names all of them, "" for none.
        unlisted: the number of images in `image_dir`, such as of an earlier conversion, that no file lists.
    """

    kind: str
    classes: list[str]
    image_dir: str
    losses: Losses
    counts: dict[str, tuple[int, Counter]] = field(default_factory=dict)
    similar: int = 0
    has_images: bool = True
    left_out: str = ""
    unlisted: int = 0


def convert_annotations(
    source: str | Path,
    target: str | Path,
    *,
    form: str | None = None,
    image_dir: str | None = None,
    labels: str | None = None,
    split: str | None = None,
    seed: int = 1,
    keep_similar_together: bool = True,
    images: str = "copy",
    overwrite: bool = False,
) -> Conversion:
    """Convert the annotations in a folder, or of one file, and write target/annotations/*.json and target/images.

    The files are train.json, val.json and test.json after a split, that of the tool or that of `split`, and else
    all.json. Images that the tool put into no part are in unsplit.json. `left_out.txt` names everything left out. The
    target gets all of its files at the end, or none if something cannot be written.

    Args:
        source: what the tool exported; it is not changed.
        target: folder to write to, outside the source's folder, and without the source's file or the images in it.
        form: one of label_formats.READ_FORMATS; None finds it out.
        image_dir: another folder in which images are looked for, but no annotations.
        labels: text file with one class name on each line: the order of the classes; other classes are left out.
        split: shares such as "0.8/0.2"; the tool's own split is then not used.
        seed: of the split.
        keep_similar_together: near-duplicate images (by perceptual hashes) go to the same part.
        images: "copy" them to target/images, "link" them there (hard links), or "keep" them where they are.
        overwrite: replace the files of an earlier conversion. Its images stay, since they may be somebody's only ones.

    Raises:
        DataError: something cannot be used; the message says what, and what to do. Nothing was written then.
        OSError: something cannot be written; the target is as before.
    """
    require_extras(DataError, "data")
    source, target = join_path(None, str(source)), join_path(None, str(target))
    shares = shares_of(split) if split else None
    image_dir = join_path(None, image_dir) if image_dir else None
    root = check_folders(source, target, image_dir, replaces=overwrite, keeps_images=images == "keep")
    index = ImageIndex(root, image_dir, target)
    losses = Losses()
    labeled = read_annotations(source, form, index, losses)
    read = read_images(labeled, index, losses)
    if not read:
        more = "; ".join(losses.summary())
        raise DataError(f"{source}: no annotated image is left to convert{': ' + more if more else ''}")
    used = {box.label for image in read for box in image.boxes}
    classes = order_classes(labels, labeled.names, used, read, losses, source)
    has_images = read[0].path is not None
    result = Conversion(labeled.kind, classes, "", losses, has_images=has_images)
    parts = parts_of(read, shares, seed, keep_similar_together and has_images, result)
    names = sorted(parts, key=FILES.index)
    result.image_dir = _image_dir(read, target, images)
    with whole_folder(Path(target)) as new:
        if has_images and images != "keep":
            place_files(read, str(new / "images"), link=images == "link")
        for name in names:
            write_json(new / "annotations" / f"{name}.json", coco_content(parts[name], classes))
            result.counts[os.path.join(target, "annotations", f"{name}.json")] = count_boxes(parts[name])
        if losses.counts:
            result.left_out = os.path.join(target, LEFT_OUT)
            with atomic_path(new / LEFT_OUT) as temporary:
                temporary.write_text("\n".join(losses.lines()) + "\n", encoding="utf-8", errors="backslashreplace")
    # What only an earlier conversion wrote; without `overwrite` there was none.
    for name in set(FILES) - set(names):
        Path(target, "annotations", f"{name}.json").unlink(missing_ok=True)
    if not losses.counts:
        Path(target, LEFT_OUT).unlink(missing_ok=True)
    if overwrite and images != "keep":
        result.unlisted = _unlisted_images(result.image_dir, read)
    return result


def order_classes(
    labels: str | None, known: list[str], used: set[str], read: list[ReadImage], losses: Losses, source: str
) -> list[str]:
    """The classes in their order; boxes of classes that the file `labels` lacks are removed from the images."""
    if labels is None and not known and not used:
        more = "; ".join(["", *losses.summary()])
        raise DataError(
            f"{source}: no object with a class was found, so that there is nothing to learn; if its images are right "
            f"to have no objects of certain classes, name these classes with --labels FILE{more}"
        )
    if labels is None:
        return class_order(known, used, source)
    listed = lines_of(text_of(labels, LARGEST_OF_IMAGE))
    if not any(map(clean_name, listed)):
        raise DataError(f"--labels {labels} has no class names in it: put one on each line")
    names = class_order(listed, (), labels)
    for image in read:
        for box in image.boxes:
            if box.label not in names:
                losses.add("boxes of classes that --labels does not name left out", f"{image.name} ({box.label})")
        image.boxes = [box for box in image.boxes if box.label in names]
    return names


def parts_of(
    read: list[ReadImage], shares: list[float] | None, seed: int, by_similarity: bool, result: Conversion
) -> dict[str, list[ReadImage]]:
    """The images of each annotation file."""
    parts: dict[str, list[ReadImage]] = {}
    if shares:
        groups = [[number] for number in range(len(read))]
        if by_similarity:
            groups = groups_of_similar(
                [str(image.path) for image in read], progress=lambda paths: progress_of(paths, "compare images")
            )
        result.similar = sum(len(group) for group in groups if len(group) > 1)
        classes = [count_boxes([image])[1] for image in read]
        for image, part in zip(read, split_groups(classes, groups, shares, seed)):
            parts.setdefault(NAMES[part], []).append(image)
        return parts
    has_split = any(image.split for image in read)
    for image in read:
        parts.setdefault(image.split or ("unsplit" if has_split else "all"), []).append(image)
    return parts


def _image_dir(read: list[ReadImage], target: str, images: str) -> str:
    """Return the folder to which file names are relative."""
    first = next((image for image in read if image.path is not None), None)
    if first is None or images != "keep":
        return os.path.join(target, "images")
    return str(first.path)[: -len(first.name)].rstrip("/\\")


def _unlisted_images(folder: str, read: list[ReadImage]) -> int:
    """The number of image files in a folder that are not among those of a conversion."""
    listed = {os.path.normpath(os.path.join(folder, image.name)) for image in read}
    return sum(is_image_name(path) and os.path.normpath(path) not in listed for path in files_below(folder))


def place_files(read: list[ReadImage], folder: str, *, link: bool = False) -> None:
    """Copy the image files to a folder, or make hard links there where the file system can do it."""
    for image in progress_of(read, "link images" if link else "copy images"):
        place = Path(folder, image.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # it may be a link to the source
        if link:
            try:
                os.link(str(image.path), place)
                continue
            except OSError:  # another disk, or a file system without hard links
                logger.debug("%s is copied: it cannot be linked", place)
        copy_file(str(image.path), place)


def coco_content(images: list[ReadImage], classes: list[str]) -> dict[str, Any]:
    """The content of an annotation file."""
    ids = {name: number for number, name in enumerate(classes, start=1)}
    rows: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for box in image.boxes:
            area = round(box.xywh[2] * box.xywh[3], 4)
            fixed = {"id": len(rows) + 1, "image_id": image_id, "category_id": ids[box.label]}
            rows.append({**fixed, "bbox": list(box.xywh), "area": area, "iscrowd": 0, **box.more})
    return {
        "images": [
            {"id": number, "file_name": image.name, "width": image.size[0], "height": image.size[1]}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": rows,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


def count_boxes(images: list[ReadImage]) -> tuple[int, Counter]:
    """Return the number of images, and the number of their boxes of each class."""
    return len(images), Counter(box.label for image in images for box in image.boxes)
