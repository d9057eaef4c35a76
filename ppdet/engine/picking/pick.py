"""Picking images to label next: what a detector sees in a folder, and the choice among its images."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.core.config import Config
from ppdet.data.annotations.informative import choose, thumbnail_features, uncertain_objects
from ppdet.data.annotations.near_duplicates import groups
from ppdet.data.checking.listed_split import find_image_dir
from ppdet.data.sources.coco_dataset import image_path
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError, ImageError
from ppdet.utils.formats.coco_annotations import Annotations
from ppdet.utils.formats.coco_file import coco_categories, file_names_of, image_ids_of, load_coco_json
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
NO_ROWS = np.zeros((0, 6))

# Wraps a sequence, or an iterator of a known length, with a progress bar of that title.
Progress = Callable[[Iterable, int, str], Iterable]


@dataclass
class Seen:
    """What was found in the images that could be read.

    paths: their files. rows: detections (M, 6) of [class, score, x1, y1, x2, y2] of each. features: (N, D).
    class_names: of the detector; () without one.
    """

    paths: list[str]
    rows: list[np.ndarray]
    features: np.ndarray
    class_names: Sequence[str]


@dataclass
class Picks:
    """The choice among the images of `seen`, by their numbers in it.

    chosen: in the order of choice. distances: of each to the nearest image that was labeled or chosen before it; NaN
    where there was none. objects: (N,) the uncertain objects of each image, 1 without a detector. labeled: images that
    have labels already. duplicates: the number of images left out because they show the same picture as another.
    """

    seen: Seen
    chosen: list[int]
    distances: list[float]
    objects: np.ndarray
    labeled: list[int]
    duplicates: int


def pick(
    seen: Seen,
    number: int,
    labeled: Sequence[int],
    progress: Progress,
    *,
    counts: Mapping[str, int] | None = None,
    near_duplicates: bool = False,
) -> Picks:
    """Choose images to label next.

    Args:
        number: how many, at most.
        labeled: the numbers of images that have labels already.
        counts: how many labels there are of each class, by its name.
        near_duplicates: choose also images that show the same picture as another.

    Raises:
        DataError: every image is labeled, or the library that finds near-duplicates is not installed.
    """
    if near_duplicates:
        same = [[image] for image in range(len(seen.paths))]
    else:
        same = groups(seen.paths, progress=lambda paths: progress(paths, len(paths), "compare"))
    names = seen.class_names
    objects = uncertain_objects(seen.rows, len(names)) if names else np.ones((len(seen.paths), 1))
    if not objects.any():
        logger.warning("the detector detects nothing in any image: the images are only spread over the folder")
    labels = np.array([(counts or {}).get(name, 0) for name in names]) if names else 0
    chosen, distances = choose(number, seen.features, objects, same, labeled, labels)
    if not chosen:
        raise DataError(
            "all images are labeled already, or show the same pictures as labeled ones: add other images, or pick "
            "these with --near_duplicates"
        )
    known = set(labeled)
    duplicates = sum(len(set(group) - known) - (not known & set(group)) for group in same)
    return Picks(seen, chosen, distances, objects.sum(axis=1), list(labeled), duplicates)


def look_with_detector(cfg: Config, paths: Sequence[str], progress: Progress) -> Seen:
    """Detect in the images. Features are means of the backbone's coarsest map, with length 1; a detector without a
    backbone of that contract leaves the thumbnails to describe the images.

    Raises:
        DataError: no image can be read. ConfigError, CheckpointError: see `Predictor`.
    """
    from ppdet.engine.predictor import Predictor

    predictor = Predictor(cfg)
    vectors: list[np.ndarray] = []  # of the images of the current batch that were not yielded yet
    backbone = getattr(predictor.model, "backbone", None)
    if backbone is not None:
        backbone.register_forward_post_hook(
            lambda layer, inputs, maps: vectors.extend(maps[-1].astype("float32").mean(axis=[2, 3]).numpy())
        )
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for index, rows in progress(predictor.detect(paths), len(paths), "detect"):
        vector = vectors.pop(0) if backbone is not None else thumbnail_features(read_image(paths[index]))
        found[index] = rows, vector / max(float(np.linalg.norm(vector)), 1e-12)
    require_some(found, paths)
    order = sorted(found)
    features = np.stack([found[index][1] for index in order])
    return Seen([paths[i] for i in order], [found[i][0] for i in order], features, predictor.dataset.class_names)


def look_without_detector(paths: Sequence[str], progress: Progress) -> Seen:
    """Describe the images by their thumbnails.

    Raises:
        DataError: no image can be read.
    """
    found = list(_thumbnails(progress(paths, len(paths), "read")))
    require_some(found, paths)
    readable, features = zip(*found)
    return Seen(list(readable), [NO_ROWS] * len(found), np.stack(features), ())


def _thumbnails(paths: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    for path in paths:
        try:
            yield path, thumbnail_features(read_image(path))
        except ImageError as error:
            logger.warning("skipped: %s", error)


def require_some(found: object, paths: Sequence[str]) -> None:
    """Raise DataError if nothing was found in any of the images."""
    if not found:
        raise DataError(f"none of the {len(paths)} images could be read, beginning with {paths[0]}")


def read_labeled(annotations: str) -> dict[str, Any]:
    """Return the content of a COCO file that lists labeled images.

    Raises:
        DataError: the file does not exist or is not COCO JSON.
    """
    if not os.path.exists(annotations):
        raise DataError(
            f"--labelled {annotations}: there is no such file: name the COCO files of the labeled images, or leave "
            "it out"
        )
    return load_coco_json(annotations)


def labeled_images(content: dict[str, Any], annotations: str, paths: Sequence[str]) -> list[str]:
    """Return the files of the images that a COCO file lists: those of the paths that end like a file_name in it, or
    else the images near the file, which need not be among the paths.

    Args:
        content: of the file, see `read_labeled`.
        annotations: the path of the file.

    Raises:
        DataError: the content is not COCO's, or its images are neither among the paths nor near the file.
    """
    image_ids_of(content, annotations)  # says what is wrong if it has no list of images
    listed = file_names_of(content, annotations)
    names = {Path(name.replace("\\", "/")).parts for name in listed}
    # A file_name such as images/a.jpg names IMAGES/a.jpg too, unless the folder has its own images/a.jpg.
    names |= {parts[-1:] for parts in names if not any(_ends_like(path, {parts}) for path in paths)}
    labeled = [path for path in paths if _ends_like(path, names)]
    if labeled or not listed:
        return labeled
    try:
        folder = find_image_dir(annotations, listed)
    except DataError:
        raise DataError(
            f"{annotations}: its images are neither among those to pick from, beginning with {paths[0]}, nor near this "
            "file: put it beside them, or leave --labelled out"
        ) from None
    return [path for path in (image_path(folder, name) for name in listed) if os.path.isfile(path)]


def labels_of_classes(content: dict[str, Any], annotations: str) -> Counter[str]:
    """Return how many boxes of each class, by its name, a COCO file has; none if it only lists images.

    The arguments are those of `labeled_images`.

    Raises:
        DataError: the content is not COCO's.
    """
    if not content.get("annotations"):
        return Counter()
    ids, names = coco_categories(content, annotations)
    images = image_ids_of(content, annotations)
    boxes = Annotations(content["annotations"], image_ids=images, category_ids=ids, path=annotations)
    boxes.require_known_categories()
    return Counter(names[number] for number in boxes.category.tolist())


def _ends_like(path: str, names: set[tuple[str, ...]]) -> bool:
    parts = Path(path).absolute().parts
    return any(parts[start:] in names for start in range(len(parts)))
