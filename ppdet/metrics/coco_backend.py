"""The two libraries that compute COCO's precision and recall: the same numbers, at different speeds."""

import contextlib
import gc
import importlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ppdet.utils.process.cpu import cpu_count
from ppdet.utils.process.start import call_in_processes

# package to install: module, fastest first
BACKENDS = {"faster-coco-eval": "faster_coco_eval", "pycocotools": "pycocotools.cocoeval"}
MANY = 100_000  # detections, from which on starting processes pays


def choose_backend(name: str | None = None) -> str:
    """Return `name` if it can be imported, or for None the first of BACKENDS that can.

    Raises:
        ImportError: one line that says what to install.
    """
    for candidate in BACKENDS if name is None else [name]:
        try:
            importlib.import_module(BACKENDS[candidate])
            return candidate
        except ImportError:
            continue
    wanted = name or " nor ".join(BACKENDS)
    raise ImportError(f"COCO evaluation: {wanted} cannot be imported: pip install {name or next(iter(BACKENDS))}")


def run_backend(
    name: str, *, truth: np.ndarray, detections: np.ndarray, image_ids: Sequence[int], category_ids: Sequence[int]
) -> dict[str, Any]:
    """Evaluate boxes with the library `name` and print nothing. Many detections are shared by a process per core.

    Args:
        truth: (M,) of coco_truth.TRUTH. detections: (K,) of coco_truth.DETECTION.
        image_ids: images that count. category_ids: classes that count. Both of 64 bits: the libraries are given places
            among the sorted ids in their stead.

    Returns:
        {"precision": (T, P, C, A, D), "recall": (T, C, A, D)} for T = 10 IoU thresholds, P = 101 recall
        points, C classes by id, A = 4 areas (all, small, medium, large) and D = 1, 10, 100 detections per
        image; -1 where there is no ground truth.
    """
    images, categories = np.unique(np.array(image_ids, np.int64)), np.unique(np.array(category_ids, np.int64))
    truth, detections = _numbered(truth, images, categories), _numbered(detections, images, categories)
    numbers = list(range(1, len(categories) + 1))
    shares = share_categories(numbers, detections) if len(detections) >= MANY else [numbers]
    if len(shares) == 1:
        return run_library(name, len(images), truth, detections, numbers)
    # The libraries see one class at a time, so that its numbers do not depend on the others.
    order = np.argsort(np.concatenate(shares))
    parts = call_in_processes(partial(_run_share, name, len(images), truth, detections), shares)
    return {key: np.concatenate([part[key] for part in parts], axis=-3)[..., order, :, :] for key in parts[0]}


def _run_share(name: str, images: int, truth: np.ndarray, detections: np.ndarray, share: list[int]) -> dict[str, Any]:
    """`run_library` on the rows of the classes in `share`."""
    truth, detections = (rows[np.isin(rows["category_id"], share)] for rows in (truth, detections))
    return run_library(name, images, truth, detections, share)


def _numbered(rows: np.ndarray, images: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """The rows of these images and categories, with places from 1 among them for ids."""
    rows = rows[np.isin(rows["image_id"], images) & np.isin(rows["category_id"], categories)]
    rows["image_id"] = np.searchsorted(images, rows["image_id"]) + 1
    rows["category_id"] = np.searchsorted(categories, rows["category_id"]) + 1
    return rows


def share_categories(categories: Sequence[int], detections: np.ndarray) -> list[list[int]]:
    """The classes, dealt to one process per core so that each has about the same number of detections."""
    counts = dict(zip(*np.unique(detections["category_id"], return_counts=True)))
    largest_first = sorted(categories, key=lambda category: counts.get(category, 0), reverse=True)
    count = min(cpu_count(), len(categories))
    return [sorted(largest_first[i::count]) for i in range(max(1, count))]


def run_library(
    name: str, images: int, truth: np.ndarray, detections: np.ndarray, category_ids: list[int]
) -> dict[str, Any]:
    """`run_backend` in this process, of images 1 to `images`; category ids are sorted."""
    image_ids = list(range(1, images + 1))
    header = {"images": [{"id": i} for i in image_ids], "categories": [{"id": i, "name": str(i)} for i in category_ids]}
    with contextlib.redirect_stdout(io.StringIO()), no_garbage_collection():
        coco_class, evaluation_class, options = _classes(name)
        annotated, found = coco_class(), coco_class()
        annotated.dataset = {**header, "annotations": annotations_of(truth)}
        found.dataset = {**header, "annotations": annotations_of(detections)}
        annotated.createIndex()
        found.createIndex()
        evaluation = evaluation_class(annotated, found, "bbox", **options)
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
    return {"precision": evaluation.eval["precision"], "recall": evaluation.eval["recall"]}


def annotations_of(rows: np.ndarray) -> list[dict]:
    """Truth or detections as the libraries want them, with numbers from 1 as ids."""
    columns = {name: rows[name].tolist() for name in rows.dtype.names}
    columns["id"] = range(1, len(rows) + 1)
    if "area" not in columns:
        columns["area"] = (rows["bbox"][:, 2] * rows["bbox"][:, 3]).tolist()
    columns["iscrowd"] = rows["iscrowd"].astype(int).tolist() if "iscrowd" in columns else [0] * len(rows)
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Within the block Python does not look for reference cycles.

    The libraries make millions of small objects and no cycles; looking through all of them again and again took a
    fifth of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _classes(name: str) -> tuple[type, type, dict[str, Any]]:
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval, {}
    from faster_coco_eval import COCO, COCOeval_faster

    return COCO, COCOeval_faster, {"print_function": lambda *_: None}
