"""The two libraries that compute COCO's precision and recall: the same numbers, at different speeds."""

import contextlib
import importlib
import io
from collections.abc import Iterable, Sequence
from typing import Any, Optional

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
    results: list[dict],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
) -> dict[str, Any]:
    """Evaluate boxes with the library `name` and print nothing.

    Args:
        images: {"id"}; annotations: {"id" (from 1), "image_id", "category_id", "bbox" (x, y, w, h), "area",
            "iscrowd"}; results: {"image_id", "category_id", "bbox", "score"}, unchanged afterwards.
        image_ids: images that count. category_ids: classes that count.

    Returns:
        {"precision": (T, P, C, A, D), "recall": (T, C, A, D)} for T = 10 IoU thresholds, P = 101 recall
        points, C classes by id, A = 4 areas (all, small, medium, large) and D = 1, 10, 100 detections per
        image; -1 where there is no ground truth.
    """
    header = {"images": list(images), "categories": [{"id": i, "name": str(i)} for i in category_ids]}
    detections = [
        {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(results, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco_class, evaluation_class, options = _classes(name)
        truth, found = coco_class(), coco_class()
        # Copies: the libraries write flags into the annotations.
        truth.dataset = {**header, "annotations": [dict(annotation) for annotation in annotations]}
        found.dataset = {**header, "annotations": detections}
        truth.createIndex()
        found.createIndex()
        evaluation = evaluation_class(truth, found, "bbox", **options)
        evaluation.params.imgIds = sorted(image_ids)
        evaluation.params.catIds = sorted(set(category_ids))
        evaluation.evaluate()
        evaluation.accumulate()
    return {"precision": evaluation.eval["precision"], "recall": evaluation.eval["recall"]}


def _classes(name: str) -> tuple[type, type, dict[str, Any]]:
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval, {}
    from faster_coco_eval import COCO, COCOeval_faster

    return COCO, COCOeval_faster, {"print_function": lambda *_: None}
