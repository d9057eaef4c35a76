"""Mean average precision at one IoU threshold, with the highest F-score."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ppdet.core.workspace import register
from ppdet.metrics.eval_metric import EvalMetric, EvaluatedImage
from ppdet.metrics.score_curves import best_threshold
from ppdet.utils.boxes import pairwise_overlap
from ppdet.utils.ranges import require_choice, require_number

MapType = Literal["integral", "11point", "101point"]
RECALLS = {"11point": 11, "101point": 101}  # number of recalls from 0 to 1 at which the precision is read
WRONG, RIGHT, IGNORED = 0, 1, 2


@register
class APAtIoU(EvalMetric):
    """Mean average precision (mAP) at one IoU threshold, and the highest F-score: `AP@0.5`, `F@0.5`, `threshold@0.5`.

    A detection is right if its IoU with an annotated box of its class is at least `iou`. Detections are matched from
    the highest score to the lowest, each with the box that it overlaps most of those that are still free, and those
    inside of a crowd box are ignored, as in COCO's evaluation. All detections of an image count, also beyond 100.

    AP is the mean over the classes that have boxes. F is 2 P R / (P + R), with the precision P and the recall R of all
    classes together, at the one score threshold that gives the highest F; `threshold` is that threshold. All are
    NaN if there are no boxes, and the threshold also if no detection is right.

    `{name: APAtIoU, iou: 0.33}` are the mAP and the F-score of DeepPCB (Tang et al., "On-line PCB Defect Detector On A
    New PCB Defect Dataset", arXiv:1902.06197). The script in the repository of that data set integrates AP in the same
    way; it takes the detections of all classes as one list, and computes F for the detections that it is given.

    Args:
        iou: least IoU of a detection that is right, above 0 and at most 1.
        map_type: how the AP of a class is computed. integral: the area under precision over recall, which is the sum of
            the precisions at all right detections divided by the number of boxes; 11point: the mean of the highest
            precisions at recalls of at least 0, 0.1 … 1, as in Pascal VOC 2007; 101point: the same with 0, 0.01 … 1, as
            in COCO.

    Raises:
        ValueError: a parameter is out of its range.
    """

    number_names: Sequence[str]

    def __init__(self, *, iou: float = 0.5, map_type: MapType = "integral") -> None:
        require_number("APAtIoU.iou", iou, above=0, maximum=1)
        require_choice("APAtIoU.map_type", map_type, ["integral", *RECALLS])
        self.iou = iou
        self.map_type = map_type
        self.number_names = [f"{name}@{iou:g}" for name in ("AP", "F", "threshold")]

    def begin(self, class_names: Sequence[str]) -> None:
        self.boxes = np.zeros(len(class_names), dtype=np.int64)  # number of boxes of each class, without crowds
        self.counted: list[np.ndarray] = [np.empty((0, 4))]  # rows [class, score, image id, right]

    def update(self, image: EvaluatedImage) -> None:
        self.boxes += np.bincount(image.classes[~image.is_crowd], minlength=len(self.boxes))
        rows = image.detections[np.argsort(-image.detections[:, 1], kind="stable")]
        for number in np.unique(rows[:, 0]):
            found, same = rows[rows[:, 0] == number], image.classes == number
            judged = match_detections(found[:, 2:], image.boxes[same], image.is_crowd[same], self.iou)
            images = np.full(len(found), image.image_id)
            counted = np.column_stack([found[:, :2], images, judged == RIGHT])
            self.counted.append(counted[judged != IGNORED])

    def result(self) -> dict[str, float]:
        rows = np.concatenate(self.counted)
        # Equal scores are in the order of the images' ids, whichever rank detected them.
        rows = rows[np.lexsort((rows[:, 2], -rows[:, 1]))]
        classes, scores, right = rows[:, 0], rows[:, 1], rows[:, 3] == 1
        precisions = [
            average_precision(right[classes == number], count, self.map_type)
            for number, count in enumerate(self.boxes.tolist())
            if count
        ]
        undefined = float("nan")
        best = best_threshold(scores, right, int(self.boxes.sum()))
        numbers = (
            float(np.mean(precisions)) if precisions else undefined,
            best.f1 if best else (0.0 if precisions else undefined),
            best.threshold if best else undefined,
        )
        return dict(zip(self.number_names, numbers))


def match_detections(found: np.ndarray, boxes: np.ndarray, is_crowd: np.ndarray, iou: float) -> np.ndarray:
    """Match the detections of a class in an image with the annotated boxes of this class.

    Args:
        found: (M, 4) detected boxes x1, y1, x2, y2 in pixels, from the highest score to the lowest.
        boxes, is_crowd: (K, 4) annotated boxes, and (K,) bool: a box is that of a crowd.
        iou: least IoU of a match.

    Returns:
        (M,) RIGHT, WRONG, or IGNORED: at least the share `iou` of its area lies in a crowd box, and it matches no box.
    """
    overlap = pairwise_overlap(found, boxes[~is_crowd])
    in_crowd = (share_inside(found, boxes[is_crowd]) >= iou).any(axis=1)
    judged = np.where(in_crowd, IGNORED, WRONG)
    for number, mine in enumerate(overlap):
        if mine.size and mine.max() >= iou:
            judged[number] = RIGHT
            overlap[:, mine.argmax()] = -1  # each box is matched once
    return judged


def share_inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return (K, M): the share of the area of each box (K, 4) that lies in each of `others` (M, 4), x1, y1, x2, y2."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    inner = np.maximum(high - low, 0).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    return np.divide(inner, area, out=np.zeros_like(inner), where=area > 0)


def average_precision(right: np.ndarray, boxes: int, map_type: MapType) -> float:
    """The AP of a class, from 0 to 1.

    Args:
        right: (M,) bool: a detection is right, from the highest score to the lowest.
        boxes: number of annotated boxes of the class, at least 1.
        map_type: see `APAtIoU`.
    """
    found = np.cumsum(right)
    precision = found / np.arange(1, len(right) + 1)
    if map_type == "integral":
        return float(precision[right].sum() / boxes)
    highest = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a larger one
    first = np.searchsorted(found / boxes, np.linspace(0, 1, RECALLS[map_type]))
    return float(np.append(highest, 0.0)[first].mean())
