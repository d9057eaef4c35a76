"""Labelled and unlabelled parts of data in COCO format, for semi-supervised training."""

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

from ppdet.data.image_size import image_size
from ppdet.data.sources.dataset import join_path
from ppdet.data.splitting.split_files import CocoFile, Part, PathLike, Split, dataset_folder, output_file, output_folder
from ppdet.utils.disk.files import atomic_path, write_json
from ppdet.utils.disk.images import find_images
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)


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
    """Write each image of a COCO file into a labelled or an unlabelled file, once for every share and every seed.

    The images, sorted by id, are put in the order that the seed gives (see `draw`), and the first ones are labelled:
    what is labelled of 5 % is labelled of 10 % with the same seed too. Images and annotations keep their order and
    all of their fields; whatever else the file holds is in both. Annotations of images not in the file are in none.

    Args:
        percents: shares of the images to label, between 0 and 100, rounded down to whole images.
        images: a number of images to label, instead of or besides percents.
        output_dir: default: `semi_annotations` beside the folder of `anno_path`.
        stratified: label images of every class, of each about the share that it has in the file (see `stratify`).
            5 % need not be a part of 10 % then.
        drop_annotations: the unlabelled files have an empty list of them.

    Returns:
        Each share's splits by seed: `train.1@10.json` with `train.1@10-unlabeled.json`, or `train.1@20images.json`, ….
    Raises:
        DataError: the file is missing, not COCO or has no images, a share leaves one part without any, or the
            classes do not fit in the labelled part.
    """
    shares = [_percent(value) for value in percents]
    coco = CocoFile(anno_path)
    total = len(coco.image_ids)
    sizes = dict(_size_of_percent(share, total, coco.path) for share in shares)
    if images is not None:
        if not 1 <= images < total:
            raise DataError(f"{images} labelled images of the {total} in {coco.path}: expected 1 to {total - 1}")
        sizes[f"{images}images"] = images
    folder = output_folder(output_dir, coco.path)
    stem = re.sub(r"\.json$", "", os.path.basename(coco.path), flags=re.IGNORECASE)
    classes = coco.classes_of_images() if stratified else None
    jobs = []  # what can be wrong is found before anything is written
    for (name, count), seed in product(sizes.items(), dict.fromkeys(seeds)):
        paths = [output_file(folder, f"{stem}.{seed}@{name}{end}.json", coco.path) for end in ("", "-unlabeled")]
        jobs.append((paths, _labelled(coco, count, seed, classes)))
    coco.encode()
    image_dir = coco.find_image_dir()
    splits = []
    for paths, mask in _progress(jobs, "write", "split"):
        # Neither gets its name before both are complete: they belong together.
        with atomic_path(paths[0]) as labelled, atomic_path(paths[1]) as unlabelled:
            coco.write(labelled, mask)
            coco.write(unlabelled, ~mask, drop_annotations)
        parts = coco.part(paths[0], mask, image_dir), coco.part(paths[1], ~mask, image_dir, drop_annotations)
        splits.append(Split(*parts, len(coco.category_ids), dataset_folder(coco.path)))
    return splits


def list_unlabelled(folder: PathLike, *, anno_path: PathLike, output_dir: PathLike | None = None) -> Split:
    """Write a COCO file of the images in a folder and below it, with their sizes and the categories of `anno_path`.

    It is named `<folder>-unlabeled.json`; its file names are relative to the folder. Left out and counted in the log
    are files that cannot be read, and images that `anno_path` names: one of the two paths ends in the other, as
    `val/1.jpg` ends in `1.jpg`, and where the labelled image is found, both files are the same. Only headers are read
    where they tell the size, so that a file which is damaged further on is found when its turn comes in training.

    Raises:
        DataError: a file or folder is missing, or no image is left.
    """
    folder = join_path(None, os.fspath(folder))
    if not os.path.isdir(folder):
        raise DataError(f"folder of unlabelled images {folder} does not exist")
    coco = CocoFile(anno_path)
    path = output_file(output_folder(output_dir, coco.path), f"{os.path.basename(folder)}-unlabeled.json", coco.path)
    names = sorted(Path(found).relative_to(folder).as_posix() for found in find_images(folder))
    image_dir = coco.find_image_dir()
    new = _not_labelled(names, folder, [name for name in coco.file_names if isinstance(name, str)], image_dir)
    if len(new) < len(names):
        logger.info(f"{len(names) - len(new)} images are also in {coco.path}: left out, they are labelled")
    rows, errors = [], []
    for name in _progress(new, "read sizes", "image"):
        try:
            h, w = image_size(os.path.join(folder, name))
        except ImageError as error:
            errors.append(error)
        else:
            rows.append({"id": len(rows) + 1, "file_name": name, "width": w, "height": h})
    if errors:
        logger.warning(f"{len(errors)} files could not be read and are left out, the first is {errors[0]}")
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


def draw(count: int, seed: int) -> np.ndarray:
    """(count,) a permutation of 0 to count - 1: the order of the numbers that numpy's PCG64((seed,)) gives.

    numpy promises to keep these numbers on every machine and in every version; a Generator's permutation may change.
    """
    return np.argsort(np.random.PCG64((seed,)).random_raw(count), kind="stable")


def stratify(classes: Sequence[set[int]], order: Sequence[int], count: int) -> tuple[set[int], int]:
    """Choose `count` images in which all classes are present, each in about its share; `classes` are those of an image.

    Three passes. From the rarest class on, every class not present yet gets one image: of those that have it, the one
    with the most classes not present yet. Then, from the rarest on, images of a class are added until it has
    count / len(order) of all that have it, rounded down; images without any class count as one, which comes last. Then
    any images. The last two passes first take images of which no class has its share already; all are taken in the
    order given.

    Returns:
        The images, and how many the first pass needed: with more than `count`, the images are those of that pass.
    """
    kinds = [of_image or {None} for of_image in classes]
    holders: dict[int | None, list[int]] = {None: []}
    for i in order:
        for c in kinds[i]:
            holders.setdefault(c, []).append(i)
    rarest = sorted(holders.keys() - {None}, key=lambda c: (len(holders[c]), c))
    chosen: set[int] = set()
    present: Counter = Counter()

    def take(i: int) -> None:
        chosen.add(i)
        present.update(kinds[i])

    def fill(images: Sequence[int], wanted: float, c: int | None = None) -> None:
        for is_strict in (True, False):
            for i in images:
                if len(chosen) >= count or present[c] >= wanted:
                    return
                fits = all(present[k] * len(order) < count * len(holders[k]) for k in kinds[i])
                if i not in chosen and (fits or not is_strict):
                    take(i)

    for c in rarest:
        if not present[c]:
            take(max(holders[c], key=lambda i: sum(not present[k] for k in kinds[i])))
    needed = len(chosen)
    for c in [*rarest, None]:
        fill(holders[c], count * len(holders[c]) // len(order), c)
    fill(order, float("inf"))
    return chosen, needed


def _percent(value: str | float) -> Decimal:
    """The number as it is written: the binary 0.7 is a little less than 0.7 %."""
    try:
        percent = Decimal(str(value))
    except InvalidOperation:
        raise DataError(f"percent {value!r} is not a number") from None
    if not (percent.is_finite() and 0 < percent < 100):
        raise DataError(f"percent {value} is not between 0 and 100")
    return percent


def _plain(number: Decimal) -> str:
    """10 and 0.5 for 10.0 and 0.50."""
    return format(number.normalize(), "f")


def _least_percent(images: int, total: int) -> str:
    return _plain((Decimal(100 * images) / total).quantize(Decimal("0.0001"), ROUND_UP))


def _size_of_percent(percent: Decimal, total: int, path: str) -> tuple[str, int]:
    """(name in the file, number of images to label)."""
    count = int(percent * total / 100)
    if count == 0:
        raise DataError(
            f"{_plain(percent)} % of the {total} images in {path} is none: the least is {_least_percent(1, total)} %"
        )
    return _plain(percent), count


def _labelled(coco: CocoFile, count: int, seed: int, classes: list[set[int]] | None) -> np.ndarray:
    """(N,) which images are labelled, in the file's order; stratified by the classes of the images, where given."""
    total = len(coco.image_ids)
    order = np.argsort(coco.image_ids, kind="stable")[draw(total, seed)]
    chosen = order[:count]
    if classes is not None:
        images, needed = stratify(classes, order.tolist(), count)
        if needed > count:
            raise DataError(
                f"{count} labelled images cannot show every class of {coco.path}: with seed {seed} that needs"
                f" {needed} images ({_least_percent(needed, total)} %)"
            )
        chosen = list(images)
    mask = np.zeros(total, dtype=bool)
    mask[chosen] = True
    return mask


def _not_labelled(names: list[str], folder: str, labelled: list[str], image_dir: str | None) -> list[str]:
    """Those of the names in `folder` that are no labelled image; these lie in `image_dir`, if that is known."""
    by_ending: dict[str, list[str]] = {}
    for other in labelled:
        for ending in _endings(other):
            by_ending.setdefault(ending, []).append(other)
    whole = set(labelled)

    def is_labelled(name: str) -> bool:
        others = [*by_ending.get(name, ()), *whole.intersection(_endings(name))]
        paths = [os.path.join(image_dir or "", other) for other in others]
        # A camera begins anew with IMG_0001.jpg: a name alone says little.
        return any(
            not os.path.isfile(path) or filecmp.cmp(path, os.path.join(folder, name), shallow=False) for path in paths
        )

    return [name for name in names if not is_labelled(name)]


def _endings(name: str) -> list[str]:
    """a/b/c.jpg, b/c.jpg, c.jpg."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _progress(items: Sequence, title: str, unit: str) -> Iterable:
    """The items, under a progress bar where a person watches."""
    return tqdm(items, desc=title, unit=unit, leave=False, disable=not is_watched())
