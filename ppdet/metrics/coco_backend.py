"""COCO's precision and recall of many detections, computed by hotcoco, or by pycocotools where there is no hotcoco."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppdet.utils.extras import evaluation_package
from ppdet.utils.positions import positions

Curves = dict[str, np.ndarray]


def evaluate_boxes(
    *, truth: np.ndarray, detections: np.ndarray, image_ids: Sequence[int], category_ids: Sequence[int]
) -> Curves:
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

    Raises:
        ModuleNotFoundError: neither library is installed.
    """
    # The libraries get positions in the sorted ids, from 1: pycocotools takes an id of 0 for "none".
    images, categories = sorted(set(image_ids)), sorted(set(category_ids))
    truth, detections = numbered(truth, images, categories), numbered(detections, images, categories)
    evaluate = _by_hotcoco if evaluation_package() == "hotcoco" else _by_pycocotools
    return evaluate(truth, detections, len(images), len(categories))


def hotcoco_evaluation(truth: np.ndarray, detections: np.ndarray, images: int, categories: int) -> Any:
    """Match detections with annotations; hotcoco's `COCOeval` after `evaluate`.

    Args:
        truth: annotations (M,) of type `coco_truth.TRUTH`, whose ids are 1 to `images` and 1 to `categories`.
        detections: (K,) of type `coco_truth.DETECTION` with such ids.
    """
    from hotcoco import COCO, COCOeval

    annotated = COCO.from_arrays(
        *_header(images, categories),
        truth["image_id"],
        truth["category_id"],
        truth["bbox"],
        area=truth["area"],
        iscrowd=truth["iscrowd"],
    )
    # (K, 7): image, x, y, width, height, score, category; ids are positions, which a float holds exactly.
    columns = [detections[name].astype(np.float64) for name in ("image_id", "bbox", "score", "category_id")]
    found = annotated.load_res(np.column_stack(columns) if len(detections) else [])
    evaluation = COCOeval(annotated, found, "bbox")
    evaluation.evaluate()
    return evaluation


def numbered(rows: np.ndarray, images: Sequence[int], categories: Sequence[int]) -> np.ndarray:
    """Return a copy of the rows of these images and categories, with positions in these lists, from 1, as ids."""
    image, category = positions(rows["image_id"], images), positions(rows["category_id"], categories)
    known = (image >= 0) & (category >= 0)
    rows = rows[known]
    rows["image_id"], rows["category_id"] = image[known] + 1, category[known] + 1
    return rows


def _header(images: int, categories: int) -> tuple[list[dict], list[dict]]:
    """Images and categories as the libraries want them. hotcoco looks for classes by their names, too."""
    return (
        [{"id": i, "file_name": "", "width": 1, "height": 1} for i in range(1, images + 1)],
        [{"id": i, "name": str(i)} for i in range(1, categories + 1)],
    )


def _by_hotcoco(truth: np.ndarray, detections: np.ndarray, images: int, categories: int) -> Curves:
    evaluation = hotcoco_evaluation(truth, detections, images, categories)
    evaluation.accumulate()
    curves = evaluation.eval  # a copy, made at each access
    return {"precision": curves["precision"], "recall": curves["recall"]}


def _by_pycocotools(truth: np.ndarray, detections: np.ndarray, images: int, categories: int) -> Curves:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    datasets = []
    with contextlib.redirect_stdout(io.StringIO()):
        for rows in (truth, detections):
            header = dict(zip(("images", "categories"), _header(images, categories)))
            datasets.append(COCO())
            datasets[-1].dataset = {**header, "annotations": _dictionaries(rows)}
            datasets[-1].createIndex()
        evaluation = COCOeval(*datasets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return {"precision": evaluation.eval["precision"], "recall": evaluation.eval["recall"]}


def _dictionaries(rows: np.ndarray) -> list[dict[str, Any]]:
    """Annotations or detections as dictionaries, with ids from 1."""
    columns = {name: rows[name].tolist() for name in rows.dtype.names or ()}
    columns["id"] = list(range(1, len(rows) + 1))
    if "area" not in columns:
        columns["area"] = (rows["bbox"][:, 2] * rows["bbox"][:, 3]).tolist()
    columns["iscrowd"] = rows["iscrowd"].astype(int).tolist() if "iscrowd" in columns else [0] * len(rows)
    return [dict(zip(columns, values)) for values in zip(*columns.values())]
