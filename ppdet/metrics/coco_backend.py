"""The two libraries that compute COCO's precision and recall: the same numbers, at different speeds."""

import contextlib
import gc
import importlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np

# package to install: module, fastest first
BACKENDS = {"faster-coco-eval": "faster_coco_eval", "pycocotools": "pycocotools.cocoeval"}


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
    """Evaluate boxes with the library `name` and print nothing.

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
    header = {"images": list(images), "categories": [{"id": i, "name": str(i)} for i in category_ids]}
    with contextlib.redirect_stdout(io.StringIO()), no_garbage_collection():
        coco_class, evaluation_class, options = _classes(name)
        truth, found = coco_class(), coco_class()
        # Copies: the libraries write flags into the annotations.
        truth.dataset = {**header, "annotations": [dict(annotation) for annotation in annotations]}
        found.dataset = {**header, "annotations": found_annotations(detections)}
        truth.createIndex()
        found.createIndex()
        evaluation = evaluation_class(truth, found, "bbox", **options)
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.catIds = sorted(set(category_ids))
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
