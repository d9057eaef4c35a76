"""The two libraries that compute COCO's precision and recall: the same numbers, at different speeds."""

import contextlib
import gc
import importlib
import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Optional

import numpy as np

from ppdet.utils.cpu import can_fork, cpu_count

# package to install: module, fastest first
BACKENDS = {"faster-coco-eval": "faster_coco_eval", "pycocotools": "pycocotools.cocoeval"}
MANY = 100_000  # detections, from which on starting processes pays


def choose_backend(name: Optional[str] = None) -> str:
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
    name: str,
    *,
    images: Iterable[dict],
    annotations: list[dict],
    detections: np.ndarray,
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> dict[str, Any]:
    """Evaluate boxes with the library `name` and print nothing. Many detections are shared by a process per core.

    Args:
        images: {"id"}; annotations: {"id" (from 1), "image_id", "category_id", "bbox" (x, y, w, h), "area",
            "iscrowd"}.
        detections: (M, 7) [image id, category id, score, x, y, w, h].
        image_ids: images that count. category_ids: classes that count.

    Returns:
        {"precision": (T, P, C, A, D), "recall": (T, C, A, D)} for T = 10 IoU thresholds, P = 101 recall
        points, C classes by id, A = 4 areas (all, small, medium, large) and D = 1, 10, 100 detections per
        image; -1 where there is no ground truth.
    """
    categories = sorted(set(category_ids))
    images, image_ids = list(images), sorted(image_ids)
    shares = share_categories(categories, detections) if len(detections) >= MANY else [categories]

    def evaluate(share: list[int]) -> dict[str, Any]:
        chosen = set(share)
        truth = [annotation for annotation in annotations if annotation["category_id"] in chosen]
        found = detections if len(share) == len(categories) else detections[np.isin(detections[:, 1], share)]
        return run_library(name, images, truth, found, image_ids, share)

    if len(shares) == 1:
        return evaluate(categories)
    # The libraries see one class at a time, so that its numbers do not depend on the others.
    order = np.argsort(np.concatenate(shares))
    parts = call_in_processes(evaluate, shares)
    return {key: np.concatenate([part[key] for part in parts], axis=-3)[..., order, :, :] for key in parts[0]}


def share_categories(categories: Sequence[int], detections: np.ndarray) -> list[list[int]]:
    """The classes, dealt to one process per core so that each has about the same number of detections."""
    counts = dict(zip(*np.unique(detections[:, 1], return_counts=True)))
    largest_first = sorted(categories, key=lambda category: counts.get(category, 0), reverse=True)
    count = min(cpu_count(), len(categories)) if can_fork() else 1
    return [sorted(largest_first[i::count]) for i in range(max(1, count))]


_job: Optional[Callable] = None  # of a process of `call_in_processes`


def _take_job(job: Callable) -> None:
    global _job
    _job = job


def _do_job(value: Any) -> Any:
    return _job(value)


def call_in_processes(function: Callable, values: Sequence[Any]) -> list:
    """[function(value) for value in values], each in a process forked here: nothing is sent but value and result."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(values), context, initializer=_take_job, initargs=(function,)) as pool:
        return list(pool.map(_do_job, values))


def run_library(
    name: str,
    images: list[dict],
    annotations: list[dict],
    detections: np.ndarray,
    image_ids: list[int],
    category_ids: list[int],
) -> dict[str, Any]:
    """`run_backend` in this process; image and category ids are sorted."""
    header = {"images": images, "categories": [{"id": i, "name": str(i)} for i in category_ids]}
    with contextlib.redirect_stdout(io.StringIO()), no_garbage_collection():
        coco_class, evaluation_class, options = _classes(name)
        truth, found = coco_class(), coco_class()
        # Copies: the libraries write flags into the annotations.
        truth.dataset = {**header, "annotations": [dict(annotation) for annotation in annotations]}
        found.dataset = {**header, "annotations": found_annotations(detections)}
        truth.createIndex()
        found.createIndex()
        evaluation = evaluation_class(truth, found, "bbox", **options)
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
    return {"precision": evaluation.eval["precision"], "recall": evaluation.eval["recall"]}


def found_annotations(detections: np.ndarray) -> list[dict]:
    """Detections (M, 7) as the libraries want them, with numbers from 1 as ids."""
    images, categories = detections[:, :2].astype(np.int64).T.tolist()
    areas = (detections[:, 5] * detections[:, 6]).tolist()
    scores, boxes = detections[:, 2].tolist(), detections[:, 3:].tolist()
    return [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "score": score,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
        }
        for number, (image, category, score, box, area) in enumerate(zip(images, categories, scores, boxes, areas), 1)
    ]


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
