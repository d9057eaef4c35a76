"""Labels that a trained detector contradicts: its certain detections, and the boxes of an annotation file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.data.checking.found import MOST_EXAMPLES, Example, Found, counted
from ppdet.data.checking.listed_split import ListedSplit
from ppdet.engine.results_file import read_results, set_image_ids, with_category_ids
from ppdet.utils.boxes import pairwise_overlap, to_corners
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import short_repr
from ppdet.utils.printable import printable

CERTAIN = 0.5  # score from which a detection may contradict a label
SAME = 0.5  # IoU from which a detection and a box mean the same object
APART = 0.1  # IoU up to which they have nothing to do with each other
KINDS = {
    "other class": "boxes on which a certain detection of another class lies",
    "missing box": "certain detections where no box is",
    "no object": "boxes near which nothing of any class was detected",
}


def label_noise(splits: Sequence[ListedSplit], path: Path) -> list[Found]:
    """Compare the boxes of the splits with detections, and return what looks like an error of labelling.

    Args:
        path: COCO results, as `ppdet infer --save_results true` writes them, with low scores too. Those without a
            `file_name`, as `ppdet eval` writes them, belong to the only split.

    Raises:
        DataError: the file is not a list of COCO results, or does not say which split its detections belong to.
    """
    results = read_results(path)
    if len(splits) > 1 and any("file_name" not in result for result in results):
        raise DataError(f"{path}: its results have no file_name: name the one COCO file that they belong to")
    found = []
    for split in splits:
        names = {os.path.basename(file) for file in split.files}
        rows = [dict(row) for row in results if os.path.basename(str(row.get("file_name", ""))) in names | {""}]
        set_image_ids(rows, path, split.dataset)
        found += _of_split(split, with_category_ids(rows, path, split.dataset), path)
    return found


def _of_split(split: ListedSplit, results: Sequence[dict[str, Any]], path: Path) -> list[Found]:
    places = {identity: place for place, identity in enumerate(split.dataset.category_ids)}
    of_image: dict[int, list[tuple[list[float], float, int]]] = {}
    for row in results:
        try:
            box, score = [float(value) for value in row["bbox"]], float(row["score"])
            place = places[row["category_id"]]
            of_image.setdefault(row["image_id"], []).append((box, score, place))
        except (KeyError, TypeError, ValueError):
            raise DataError(f"{path}: {short_repr(row)} is not a COCO result of {split.path}") from None
        if len(box) != 4 or not np.isfinite([*box, score]).all():
            raise DataError(f"{path}: {short_repr(row)} has no bbox of four numbers, or no score")
    examples: dict[str, list[tuple[float, Example]]] = {kind: [] for kind in KINDS}
    names = split.dataset.class_names
    for record in split.dataset.records:
        detected = of_image.get(record["im_id"].item())
        if detected is None:  # the detector did not see the image, or found nothing at any score
            continue
        boxes, labels = record["gt_bbox"].astype(np.float64), record["gt_class"].reshape(-1)
        found = to_corners(np.array([box for box, _, _ in detected]))
        scores, classes = np.array([score for _, score, _ in detected]), np.array([place for *_, place in detected])
        for kind, certainty, doubted, label, text in _doubts(boxes, labels, found, scores, classes, names):
            example = Example(record["im_file"], split.name, doubted[None], np.array([label]), text)
            examples[kind].append((certainty, example))
    lines = []
    for kind, shown in examples.items():
        if shown:
            best = [example for _, example in sorted(shown, key=lambda pair: -pair[0])]
            what = f"{printable(best[0].path)} ({best[0].text})"
            text = f"{split.name}: {counted(len(best), 'likely label error')}, {KINDS[kind]}, e.g. {what}: look at them"
            lines.append(Found(f"label noise, {kind}", "note", text, best[:MOST_EXAMPLES]))
    return lines


def _doubts(
    boxes: np.ndarray, labels: np.ndarray, found: np.ndarray, scores: np.ndarray, classes: np.ndarray, names: list[str]
) -> list[tuple[str, float, np.ndarray, int, str]]:
    """The doubts of one image: kind, how certain, a box (4,), its class, and a text."""
    overlap = pairwise_overlap(boxes, found)  # (boxes, detections)
    doubts = []
    for number in np.flatnonzero(scores >= CERTAIN).tolist():
        label, score = int(classes[number]), float(scores[number])
        column = overlap[:, number]
        if not len(column) or column.max() <= APART:
            doubts.append(("missing box", score, found[number], label, f"{names[label]} {score:.2f}, no box"))
        elif column.max() >= SAME and not (labels[column >= SAME] == label).any():
            text = f"{names[label]} {score:.2f} on a {names[int(labels[column.argmax()])]}"
            doubts.append(("other class", score, found[number], label, text))
    for number in np.flatnonzero((overlap <= APART).all(axis=1)).tolist():
        text = f"{names[int(labels[number])]}, nothing detected"
        doubts.append(("no object", 0.0, boxes[number], int(labels[number]), text))
    return doubts
