"""COCO's precision and recall of many detections, computed by faster-coco-eval in one process per core."""

import contextlib
import gc
import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ppdet.utils.process.cpu import cpu_count
from ppdet.utils.process.start import call_in_processes

MANY = 100_000  # number of detections from which on several processes are faster


def evaluate_boxes(
    *, truth: np.ndarray, detections: np.ndarray, image_ids: Sequence[int], category_ids: Sequence[int]
) -> dict[str, np.ndarray]:
    """Evaluate boxes as COCO does.

    Args:
        truth: annotations (M,) of type `coco_truth.TRUTH`.
        detections: (K,) of type `coco_truth.DETECTION`.
        image_ids: the images to evaluate.
        category_ids: the classes to evaluate.

    Returns:
        `precision` (T, P, C, A, D) and `recall` (T, C, A, D), for T = 10 IoU thresholds, P = 101 recall points, C
        classes in the order of their ids, A = 4 areas (all, small, medium, large) and D = 1, 10, 100 detections per
        image; -1 if there are no annotations.
    """
    # The library gets positions in the sorted ids, since its own ids have fewer bits.
    images, categories = np.unique(np.array(image_ids, np.int64)), np.unique(np.array(category_ids, np.int64))
    truth, detections = _numbered(truth, images, categories), _numbered(detections, images, categories)
    numbers = list(range(1, len(categories) + 1))
    shares = share_categories(numbers, detections) if len(detections) >= MANY else [numbers]
    if len(shares) == 1:
        return evaluate_here(len(images), truth, detections, numbers)
    # The library evaluates each class alone, so classes can be shared among processes.
    order = np.argsort(np.concatenate(shares))
    parts = call_in_processes(partial(_evaluate_share, len(images), truth, detections), shares)
    return {key: np.concatenate([part[key] for part in parts], axis=-3)[..., order, :, :] for key in parts[0]}


def _evaluate_share(images: int, truth: np.ndarray, detections: np.ndarray, share: list[int]) -> dict[str, np.ndarray]:
    """`evaluate_here` for the classes in `share`."""
    truth, detections = (rows[np.isin(rows["category_id"], share)] for rows in (truth, detections))
    return evaluate_here(images, truth, detections, share)


def _numbered(rows: np.ndarray, images: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """The rows of these images and categories, with positions from 1 in these arrays as ids."""
    rows = rows[np.isin(rows["image_id"], images) & np.isin(rows["category_id"], categories)]
    rows["image_id"] = np.searchsorted(images, rows["image_id"]) + 1
    rows["category_id"] = np.searchsorted(categories, rows["category_id"]) + 1
    return rows


def share_categories(categories: Sequence[int], detections: np.ndarray) -> list[list[int]]:
    """The classes for each process, one process per core, with about the same number of detections in each."""
    counts = dict(zip(*np.unique(detections["category_id"], return_counts=True)))
    largest_first = sorted(categories, key=lambda category: counts.get(category, 0), reverse=True)
    count = min(cpu_count(), len(categories))
    return [sorted(largest_first[i::count]) for i in range(max(1, count))]


def evaluate_here(
    images: int, truth: np.ndarray, detections: np.ndarray, category_ids: list[int]
) -> dict[str, np.ndarray]:
    """`evaluate_boxes` in this process, for images 1 to `images` and sorted category ids; it prints nothing."""
    from faster_coco_eval import COCO, COCOeval_faster

    image_ids = list(range(1, images + 1))
    header = {"images": [{"id": i} for i in image_ids], "categories": [{"id": i, "name": str(i)} for i in category_ids]}
    with contextlib.redirect_stdout(io.StringIO()), no_garbage_collection():
        annotated, found = COCO(), COCO()
        annotated.dataset = {**header, "annotations": annotations_of(truth)}
        found.dataset = {**header, "annotations": annotations_of(detections)}
        annotated.createIndex()
        found.createIndex()
        evaluation = COCOeval_faster(annotated, found, "bbox", print_function=lambda *_: None)
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
    return {"precision": evaluation.eval["precision"], "recall": evaluation.eval["recall"]}


def annotations_of(rows: np.ndarray) -> list[dict[str, Any]]:
    """Annotations or detections as dictionaries for the library, with ids from 1."""
    columns = {name: rows[name].tolist() for name in rows.dtype.names or ()}
    columns["id"] = list(range(1, len(rows) + 1))
    if "area" not in columns:
        columns["area"] = (rows["bbox"][:, 2] * rows["bbox"][:, 3]).tolist()
    columns["iscrowd"] = rows["iscrowd"].astype(int).tolist() if "iscrowd" in columns else [0] * len(rows)
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A context in which Python does not search for reference cycles.

    The library makes millions of small objects and no cycles; the searches took a fifth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
