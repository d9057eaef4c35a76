"""A cleaned copy of a data set: COCO files and images in a new folder. The original is never changed."""

import ntpath
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ppdet.data.checking.found import DOUBLED
from ppdet.data.checking.image_pass import ImageFacts, copies, near_duplicates
from ppdet.data.checking.leaks import MOST_ALIKE, left_out_of_training
from ppdet.data.checking.listed_split import ListedSplit
from ppdet.utils.boxes import clip_to_image, have_area, pairwise_overlap, to_sizes
from ppdet.utils.disk.files import copy_file, write_json
from ppdet.utils.disk.folders import whole_folder
from ppdet.utils.disk.images import is_within
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_annotations import Annotations


def write_cleaned_copy(
    splits: Sequence[ListedSplit],
    facts: dict[str, ImageFacts],
    folder: str,
    progress: Callable[[Sequence], Iterable] = iter,
) -> dict[str, dict[str, int]]:
    """Write FOLDER/annotations/SPLIT.json and FOLDER/images, or FOLDER/images/SPLIT if the splits have several folders.

    Images are copied, never linked, so that later changes of the copies do not reach the originals. If something cannot
    be written, nothing is left of the copy.

    Left out are: images that cannot be read, copies of other images of their split, images for training that an
    evaluated split has, too, or a near-duplicate of it (these only if they are few, see `left_out_of_training`), boxes
    without area within their image or of images that are not listed, and second boxes of one class on the same object.
    Sizes in the file become those of the images, boxes are
    clipped to them, and boxes of images that are listed twice come together. Everything else stays, ids included.

    Args:
        facts: what `read_all` found for all images.
        folder: a folder that does not exist, or is empty, outside of the folders of the images.
        progress: wraps the images of a split while they are copied.

    Returns:
        For each split, what was changed, and how often.

    Raises:
        DataError: the folder has files, or is within a folder of images.
        OSError: it cannot be written to.
    """
    target = Path(folder)
    require_new(target, splits)
    alike = near_duplicates(facts)
    several = len({split.image_dir for split in splits}) > 1
    names = _safe_names([split.name for split in splits])
    changes, contents = {}, {}
    files: dict[str, str] = {}  # the new name of each image file
    for split, name in zip(splits, names):
        counts: Counter[str] = Counter()
        leaked, kept = left_out_of_training(split, splits, facts, alike)
        counts[f"images kept that look like one for evaluation, more than {100 * MOST_ALIKE:.0f} % of all"] = kept
        content = _cleaned(split, facts, leaked, counts, files, f"{name}/" if several else "")
        contents[name] = content
        changes[split.name] = {what: count for what, count in counts.items() if count}
    with whole_folder(target) as new:
        for name, content in contents.items():
            write_json(new / "annotations" / f"{name}.json", content)
        for source in progress(list(files)):
            place = new / "images" / files[source]
            place.parent.mkdir(parents=True, exist_ok=True)
            copy_file(source, place)
    return changes


def require_new(target: Path, splits: Sequence[ListedSplit], data: Sequence[str] = ()) -> None:
    """Check the folder of a copy.

    Args:
        data: folders and files that were named as the data set; the copy must be outside of the folders.

    Raises:
        DataError: it has files, or is within the data set.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"--fix {target}: it exists and is not empty; name a new folder for the cleaned copy")
    for place in (*data, *(split.image_dir for split in splits)):
        if os.path.isdir(place) and is_within(os.path.realpath(target), os.path.realpath(place)):
            raise DataError(f"--fix {target}: it is within the data set, {place}; name a folder outside of it")


def _safe_names(names: Sequence[str]) -> list[str]:
    """The names of the splits' files. A name that is a path, since two files have one name, becomes NAME_2."""
    safe: list[str] = []
    for name in names:
        stem = Path(name).stem
        taken = sum(other == stem or other.startswith(f"{stem}_") for other in safe)
        safe.append(f"{stem}_{taken + 1}" if taken else stem)
    return safe


def _cleaned(
    split: ListedSplit,
    facts: dict[str, ImageFacts],
    leaked: set[str],
    counts: Counter[str],
    files: dict[str, str],
    folder: str,
) -> dict:
    """The cleaned content of a split. Images that it keeps are added to `files`, by names that begin with `folder`."""
    records = split.dataset.records
    kept_id = _kept_images(split, facts, leaked, counts)
    sizes = {int(record["im_id"][0]): facts[record["im_file"]].size for record in records}
    used, images = set(files.values()), []
    for row, record in zip(split.content["images"], records):
        identity, source = int(record["im_id"][0]), record["im_file"]
        if kept_id.get(identity) != identity:
            continue
        height, width = sizes[identity] or (0, 0)
        counts["sizes corrected"] += (record["h"], record["w"]) != (height, width)
        if source not in files:
            files[source] = _new_name(folder, row["file_name"], used)
            used.add(files[source])
        name = files[source].removeprefix(folder)
        images.append({**row, "file_name": name, "width": width, "height": height})
    return {**split.content, "images": images, "annotations": _cleaned_boxes(split, sizes, kept_id, counts)}


def _kept_images(
    split: ListedSplit, facts: dict[str, ImageFacts], leaked: set[str], counts: Counter[str]
) -> dict[int, int]:
    """The image that each kept image's boxes go to, by id: itself, or the first record of the same file."""
    records = split.dataset.records
    boxes: dict[str, int] = {}
    for record in records:
        boxes[record["im_file"]] = boxes.get(record["im_file"], 0) + len(record["gt_bbox"])
    second = set()
    for group in copies({path: facts[path] for path in boxes}):
        second |= set(group) - {max(group, key=lambda path: boxes[path])}
    kept: dict[int, int] = {}
    first: dict[str, int] = {}
    for record in records:
        identity, path = int(record["im_id"][0]), record["im_file"]
        if not facts[path].size:
            counts["unreadable images left out"] += 1
        elif path in second:
            counts["copies left out"] += 1
        elif path in leaked:
            counts["images left out that a split for evaluation has"] += 1
        else:
            counts["images listed twice joined"] += path in first
            kept[identity] = first.setdefault(path, identity)
    return kept


def _cleaned_boxes(
    split: ListedSplit, sizes: dict[int, tuple[int, int] | None], kept: dict[int, int], counts: Counter[str]
) -> list[dict]:
    rows = split.content["annotations"]
    ids = list(sizes)
    columns = Annotations(rows, image_ids=ids, category_ids=split.dataset.category_ids, path=split.path)
    known = [size or (0, 0) for size in sizes.values()] + [(0, 0)]  # the last one is of images that are not listed
    heights, widths = np.array(known, dtype=np.float64)[columns.image].T
    clipped, inside = clip_to_image(columns.xyxy, heights, widths)
    inside &= have_area(columns.xyxy)
    changed = (np.abs(clipped - columns.xyxy) > 0.01).any(axis=1)
    cleaned: list[dict] = []
    seen: dict[tuple[int, int], list[np.ndarray]] = {}
    for number, row in enumerate(rows):
        image = columns.image_ids[number]
        if columns.image[number] < 0:
            counts["boxes of images that are not listed left out"] += 1
        elif image not in kept:
            counts["boxes of images left out"] += 1
        elif not inside[number]:
            counts["boxes without area left out"] += 1
        else:
            key, box = (kept[image], columns.category_ids[number]), clipped[number]
            others = seen.setdefault(key, [])
            if others and not columns.crowd[number] and pairwise_overlap(box[None], np.stack(others)).max() >= DOUBLED:
                counts["second boxes of an object left out"] += 1
                continue
            if not columns.crowd[number]:
                others.append(box)
            row = {**row, "image_id": kept[image]}
            if changed[number]:
                counts["boxes clipped"] += 1
                row["bbox"] = [round(value, 6) for value in to_sizes(box[None])[0].tolist()]
                row["area"] = round(row["bbox"][2] * row["bbox"][3], 6)
            cleaned.append(row)
    return cleaned


def _new_name(folder: str, name: str, used: set[str]) -> str:
    """A new name of an image file below `folder`: one that leads out of it, such as ../a.jpg, loses its folders."""
    parts = name.replace("\\", "/").split("/")
    leads_out = os.path.isabs(name) or ntpath.isabs(name) or bool(ntpath.splitdrive(name)[0]) or ".." in parts
    stem, suffix = os.path.splitext(parts[-1] if leads_out else "/".join(parts))
    new, number = f"{folder}{stem}{suffix}", 1
    while new in used:
        number += 1
        new = f"{folder}{stem}_{number}{suffix}"
    return new
