"""Precision and recall of each class at given score thresholds, as a detector with these thresholds will have them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppdet.engine.report.model_analysis import detection_states, numbered_boxes
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.class_thresholds import Thresholds, is_kept
from ppdet.utils.errors import DataError
from ppdet.utils.extras import require_hotcoco
from ppdet.utils.printable import columns, padded, printable


class ClassCounts(NamedTuple):
    """The detections of one class above its threshold, at an IoU of 0.5.

    name: of the class. threshold: 0 to 1. boxes: annotated ones that are not crowds. correct: detections that match
    one of them. false: all others, without those in crowds and beyond COCO's 100 of an image.
    """

    name: str
    threshold: float
    boxes: int
    correct: int
    false: int

    @property
    def precision(self) -> float | None:
        """The share of the detections that are correct, 0 to 1; None without detections."""
        found = self.correct + self.false
        return self.correct / found if found else None

    @property
    def recall(self) -> float | None:
        """The share of the boxes that are found, 0 to 1; None without boxes."""
        return self.correct / self.boxes if self.boxes else None


def counts_at(metric: COCOMetric, thresholds: Thresholds) -> list[ClassCounts]:
    """Match the detections that a metric has collected, above the thresholds, with its annotations.

    Args:
        thresholds: one for all classes, or one for each (C,), as `class_thresholds.thresholds_of` returns them.

    Returns:
        The counts of each class, in the order of the metric's classes.

    Raises:
        DataError: hotcoco is not installed.
    """
    require_hotcoco(DataError)
    boxes = numbered_boxes(metric)
    classes = boxes.detections["category_id"] - 1
    kept = is_kept(boxes.detections["score"], classes, thresholds)
    found = classes[kept]
    state = detection_states(boxes.evaluation(kept).image_diagnostics(iou_thr=0.5), len(found))
    least = np.broadcast_to(thresholds, len(boxes.names)).tolist()
    real = boxes.truth["category_id"][~boxes.truth["iscrowd"]] - 1
    return [
        ClassCounts(
            name,
            least[index],
            int((real == index).sum()),
            *(int(((found == index) & (state == what)).sum()) for what in ("tp", "fp")),
        )
        for index, name in enumerate(boxes.names)
    ]


def counts_table(counts: Sequence[ClassCounts]) -> str:
    """One line for each class: threshold, precision and recall in percent, correct and false detections, boxes."""
    names = [printable(one.name) for one in counts]
    width = max([5] + [columns(name) for name in names])
    lines = [f"{'class':<{width}}  threshold  precision  recall  correct    false    boxes"]
    for name, one in zip(names, counts):
        shares = ["-" if value is None else f"{100 * value:.1f}" for value in (one.precision, one.recall)]
        lines.append(
            f"{padded(name, width)}  {one.threshold:>9.2f}  {shares[0]:>9}  {shares[1]:>6}  {one.correct:>7d}  "
            f"{one.false:>7d}  {one.boxes:>7d}"
        )
    return "\n".join(lines)
