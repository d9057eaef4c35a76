"""Splitting data in COCO's format into a labeled and an unlabeled part, for semi-supervised training."""

import filecmp
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import ROUND_UP, Decimal, InvalidOperation
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppdet.data.header_size import image_size
from ppdet.data.sources.dataset import join_path
from ppdet.data.splitting.split_files import CocoFile, Part, PathLike, Split, dataset_folder, output_file, output_folder
from ppdet.utils.disk.files import atomic_path, write_json
from ppdet.utils.disk.images import find_images
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)

NO_CLASS = -1  # the class of images without any


def split_annotations(
    anno_path: PathLike,
    *,
    percents: Sequence[str | float] = (),
    images: int | None = None,
    seeds: Sequence[int] = (1,),
    output_dir: PathLike | None = None,
    stratified: bool = False,
    drop_annotations: bool = False,
) -> list[Split]:
    """Write the images of a COCO file into a labeled and an unlabeled file, once for each share and seed.

    The images, sorted by id, are shuffled by the seed (see `shuffled`), and the first ones are labeled. So the images
    that are labeled at 5 % are also labeled at 10 % with the same seed. Images and annotations keep their order and
    all of their fields, and both files have everything else that the file holds. Annotations of images that are not in
    the file are left out.

    Args:
        anno_path: the COCO file.
        percents: shares of the images to label, between 0 and 100; the number of images is rounded down.
        images: a number of images to label, instead of or in addition to percents.
        seeds: one split is made for each seed.
        output_dir: folder to write to; None: `semi_annotations` beside the folder of `anno_path`.
        stratified: label images of every class, each class with about its share of the images, see `stratify`. The
            images labeled at 5 % then need not be labeled at 10 %.
        drop_annotations: write no annotations into the unlabeled files.

    Returns:
        The splits, all seeds of the first share first. Files are called `train.1@10.json` and
        `train.1@10-unlabeled.json` for seed 1 and 10 %, or `train.1@20images.json` for 20 images.

    Raises:
        DataError: the file is missing, not COCO, or has no images; a share leaves one part without images; or the
            labeled part is too small for all classes.
    """
    shares = [_percent(value) for value in percents]
    coco = CocoFile(anno_path)
    total = len(coco.image_ids)
    sizes = dict(_size_of_percent(share, total, coco.path) for share in shares)
    if images is not None:
        if not 1 <= images < total:
            raise DataError(f"{images} labeled images of the {total} in {coco.path}: expected 1 to {total - 1}")
        sizes[f"{images}images"] = images
    folder = output_folder(output_dir, coco.path)
    stem = re.sub(r"\.json$", "", os.path.basename(coco.path), flags=re.IGNORECASE)
    classes = coco.classes_of_images() if stratified else None
    jobs = []  # all errors are raised before anything is written
    for (name, count), seed in product(sizes.items(), dict.fromkeys(seeds)):
        paths = [output_file(folder, f"{stem}.{seed}@{name}{end}.json", coco.path) for end in ("", "-unlabeled")]
        jobs.append((paths, _labeled(coco, count, seed, classes)))
    coco.encode_rows()
    image_dir = coco.find_image_dir()
    splits = []
    for paths, mask in _progress(jobs, "write", "split"):
        # Both files belong together: neither gets its name before both are complete.
        with atomic_path(paths[0]) as labeled, atomic_path(paths[1]) as unlabeled:
            coco.write(labeled, mask)
            coco.write(unlabeled, ~mask, drop_annotations)
        parts = coco.part(paths[0], mask, image_dir), coco.part(paths[1], ~mask, image_dir, drop_annotations)
        splits.append(Split(*parts, len(coco.category_ids), dataset_folder(coco.path)))
    return splits


def list_unlabeled(folder: PathLike, *, anno_path: PathLike, output_dir: PathLike | None = None) -> Split:
    """Write a COCO file that lists the images in a folder and its subfolders as unlabeled images.

    The file is called `<folder>-unlabeled.json`, and its file names are relative to the folder. Files that cannot be
    read, and images that `anno_path` lists as well, are left out and counted in the log. Two images count as the same
    if one path ends with the other, as `val/1.jpg` ends with `1.jpg`, and if the files are equal, where the labeled
    one is found. Where possible only headers are read, so a file damaged after its header is noticed in training.

    Args:
        folder: the folder of unlabeled images.
        anno_path: the COCO file of the labeled images, whose categories are used.
        output_dir: folder to write to; None: `semi_annotations` beside the folder of `anno_path`.

    Raises:
        DataError: a file or folder is missing, or no image is left.
    """
    folder = join_path(None, os.fspath(folder))
    if not os.path.isdir(folder):
        raise DataError(f"folder of unlabeled images {folder} does not exist")
    coco = CocoFile(anno_path)
    path = output_file(output_folder(output_dir, coco.path), f"{os.path.basename(folder)}-unlabeled.json", coco.path)
    names = sorted(Path(found).relative_to(folder).as_posix() for found in find_images(folder))
    image_dir = coco.find_image_dir()
    new = _not_labeled(names, folder, [name for name in coco.file_names if isinstance(name, str)], image_dir)
    if len(new) < len(names):
        logger.info("%d images are also in %s: left out, they are labeled", len(names) - len(new), coco.path)
    rows: list[dict] = []
    errors = []
    for name in _progress(new, "read sizes", "image"):
        try:
            h, w = image_size(os.path.join(folder, name))
        except ImageError as error:
            errors.append(error)
        else:
            rows.append({"id": len(rows) + 1, "file_name": name, "width": w, "height": h})
    if errors:
        logger.warning("%d files could not be read and are left out, the first is %s", len(errors), errors[0])
    if not rows:
        raise DataError(f"no image in {folder} is left to use: {len(errors)} unreadable, the others in {coco.path}")
    write_json(path, {"images": rows, "annotations": [], "categories": coco.content["categories"]})
    everything = np.ones(len(coco.image_ids), dtype=bool)
    return Split(
        coco.part(coco.path, everything, image_dir),
        Part(path, len(rows), 0, 0, folder),
        len(coco.category_ids),
        dataset_folder(coco.path),
    )


def shuffled(count: int, seed: int) -> np.ndarray:
    """Return a permutation (count,) of 0 to count - 1: the order of the raw random numbers of PCG64((seed,)).

    NumPy guarantees these numbers on every machine and in every version; Generator.permutation may change.
    """
    return np.argsort(np.random.PCG64((seed,)).random_raw(count), kind="stable")


def stratify(classes: Sequence[set[int]], order: Sequence[int], count: int) -> tuple[set[int], int]:
    """Choose `count` images so that all classes are present, each with about its share of the images.

    There are three passes. First, starting with the rarest class, each class that is not present yet gets one image:
    the one that adds most classes. Then, starting with the rarest class, images of each class are added until it has
    count / len(order) of its images, rounded down; images without any class are treated as one more class, the last.
    Then any images are added. The last two passes prefer images whose classes are all below their share. Within
    each pass, images come in the given order.

    Args:
        classes: the classes of each image.
        order: a permutation of the images.
        count: number of images to choose.

    Returns:
        The images, and how many the first pass needed. If those are more than `count`, the images are that pass's.
    """
    kinds = [of_image or {NO_CLASS} for of_image in classes]
    holders: dict[int, list[int]] = {NO_CLASS: []}  # class -> its images
    for i in order:
        for c in kinds[i]:
            holders.setdefault(c, []).append(i)
    rarest = sorted(holders.keys() - {NO_CLASS}, key=lambda c: (len(holders[c]), c))
    chosen: set[int] = set()
    present: Counter = Counter()

    def choose(i: int) -> None:
        chosen.add(i)
        present.update(kinds[i])

    def fill(images: Sequence[int], limit: float, c: int = NO_CLASS) -> None:
        """Add some of these images, until `limit` images of class c are chosen."""
        for is_strict in (True, False):
            for i in images:
                if len(chosen) >= count or present[c] >= limit:
                    return
                fits = all(present[k] * len(order) < count * len(holders[k]) for k in kinds[i])
                if i not in chosen and (fits or not is_strict):
                    choose(i)

    for c in rarest:
        if not present[c]:
            choose(max(holders[c], key=lambda i: sum(not present[k] for k in kinds[i])))
    needed = len(chosen)
    for c in [*rarest, NO_CLASS]:
        fill(holders[c], count * len(holders[c]) // len(order), c)
    fill(order, float("inf"))
    return chosen, needed


def _percent(value: str | float) -> Decimal:
    """Parse a percentage as a decimal number, since the binary 0.7 is a little less than 0.7."""
    try:
        percent = Decimal(str(value))
    except InvalidOperation:
        raise DataError(f"percent {value!r} is not a number") from None
    if not (percent.is_finite() and 0 < percent < 100):
        raise DataError(f"percent {value} is not between 0 and 100")
    return percent


def _decimal_text(number: Decimal) -> str:
    """Format a number without trailing zeros: 10 for 10.0, 0.5 for 0.50."""
    return format(number.normalize(), "f")


def _least_percent(images: int, total: int) -> str:
    return _decimal_text((Decimal(100 * images) / total).quantize(Decimal("0.0001"), ROUND_UP))


def _size_of_percent(percent: Decimal, total: int, path: str) -> tuple[str, int]:
    """Return the percentage as it appears in file names, and the number of images to label."""
    count = int(percent * total / 100)
    if count == 0:
        raise DataError(
            f"{_decimal_text(percent)} % of the {total} images in {path} is no image: the minimum is "
            f"{_least_percent(1, total)} %"
        )
    return _decimal_text(percent), count


def _labeled(coco: CocoFile, count: int, seed: int, classes: list[set[int]] | None) -> np.ndarray:
    """Return a mask (N,) of the images to label, in the order of the file; stratified if `classes` are given."""
    total = len(coco.image_ids)
    order = np.argsort(coco.image_ids, kind="stable")[shuffled(total, seed)]
    chosen = order[:count]
    if classes is not None:
        images, needed = stratify(classes, order.tolist(), count)
        if needed > count:
            raise DataError(
                f"{count} labeled images cannot show every class of {coco.path}: with seed {seed} that needs"
                f" {needed} images ({_least_percent(needed, total)} %)"
            )
        chosen = list(images)
    mask = np.zeros(total, dtype=bool)
    mask[chosen] = True
    return mask


def _not_labeled(names: list[str], folder: str, labeled: list[str], image_dir: str | None) -> list[str]:
    """Return the names in `folder` that are not one of the `labeled` images, which are in `image_dir`, if known."""
    by_ending: dict[str, list[str]] = {}
    for other in labeled:
        for ending in _endings(other):
            by_ending.setdefault(ending, []).append(other)
    whole = set(labeled)

    def is_labeled(name: str) -> bool:
        others = [*by_ending.get(name, ()), *whole.intersection(_endings(name))]
        paths = [os.path.join(image_dir or "", other) for other in others]
        # Cameras start again with IMG_0001.jpg, so that the same name alone does not mean the same image.
        return any(
            not os.path.isfile(path) or filecmp.cmp(path, os.path.join(folder, name), shallow=False) for path in paths
        )

    return [name for name in names if not is_labeled(name)]


def _endings(name: str) -> list[str]:
    """Return "a/b/c.jpg", "b/c.jpg" and "c.jpg" for "a/b/c.jpg"."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _progress(items: Sequence, title: str, unit: str) -> Iterable:
    """Iterate over the items, with a progress bar on a terminal."""
    return tqdm(items, desc=title, unit=unit, leave=False, disable=not is_watched())
