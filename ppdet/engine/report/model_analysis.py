"""The figures of a report, from the detections of an evaluation. hotcoco computes them, besides COCO's own numbers."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ppdet.engine.report.judged_boxes import CORRECT, MISSED, error_kinds
from ppdet.metrics.coco_backend import hotcoco_evaluation, numbered
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.metrics.score_curves import BestThreshold, best_threshold, f1_curve
from ppdet.utils.errors import DataError
from ppdet.utils.extras import require_hotcoco

USUAL_THRESHOLD = 0.5  # of classes for which no threshold can be chosen
ENOUGH_BOXES = 10  # of a class, for its best threshold to be more than chance
SURE = 0.5  # least score of a detection that is held against a label: hotcoco's choice
AREAS = ("all", "small", "medium", "large")


class ClassNumbers(NamedTuple):
    """A class: its name, the number of its annotated boxes, its AP by name (-1: undefined), and its curves at IoU 0.5.

    is_named_once: no other class has its name.
    precision: (101,) at the recalls 0, 0.01 … 1. f1: (101,) at the thresholds 0, 0.01 … 1. best: see `best_threshold`.
    """

    name: str
    boxes: int
    ap: dict[str, float]
    precision: np.ndarray
    f1: np.ndarray
    best: BestThreshold | None
    is_named_once: bool

    @property
    def threshold(self) -> float:
        return self.best.threshold if self.best else USUAL_THRESHOLD

    @property
    def is_written(self) -> bool:
        """Whether thresholds.json has the threshold: it was chosen on enough boxes, and the name tells whose it is."""
        return self.best is not None and self.boxes >= ENOUGH_BOXES and self.is_named_once


class JudgedBox(NamedTuple):
    """A detection, or an annotated box, and what became of it.

    kind: CORRECT, MISSED or another one of `judged_boxes.ERRORS`. label: index of its class. score: of a detection;
    None for a box that was missed. box: x1, y1, x2, y2 in pixels.
    """

    kind: str
    label: int
    score: float | None
    box: tuple[float, float, float, float]


class LabelError(NamedTuple):
    """An annotation that may be wrong.

    image: its id. kind: "wrong class" or "not labeled". text: a sentence. label: index of the detected class. score: of
    the detection that contradicts the annotation. box: of this detection; x1, y1, x2, y2 in pixels.
    """

    image: int
    kind: str
    text: str
    label: int
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Analysis:
    """The figures of one model on one data set.

    Attributes:
        numbers: COCO's twelve, see `COCOMetric.compute`.
        classes: in the order of the model's.
        images: ids of the evaluated images.
        detections: their number.
        tide: `delta_ap` and `counts` by TIDE's names of errors.
        confusion: (C + 1, C + 1) counts, truth by prediction above the thresholds; the last ones are the background.
        calibration: `bins`, `ece`: hotcoco's.
        judged: boxes by image id: detections above the thresholds, and boxes that these miss.
        truth: annotated boxes by image id: (K, 5) class index, x1, y1, x2, y2.
        f1: of the images that have boxes or detections above the thresholds, by id.
        label_errors: where a score of SURE or more contradicts an annotation; the highest scores come first.
        evaluation: hotcoco's, for a comparison with another model.
    """

    numbers: dict[str, float]
    classes: list[ClassNumbers]
    images: list[int]
    detections: int
    tide: dict[str, Any]
    confusion: np.ndarray
    calibration: dict[str, Any]
    judged: dict[int, list[JudgedBox]]
    truth: dict[int, np.ndarray]
    f1: dict[int, float]
    label_errors: list[LabelError]
    evaluation: Any


class NumberedBoxes(NamedTuple):
    """Annotations and detections with the positions of images and classes, from 1, as their ids."""

    images: list[int]
    names: list[str]
    truth: np.ndarray
    detections: np.ndarray

    def evaluation(self, kept: np.ndarray | None = None) -> Any:
        """hotcoco's evaluation of these detections (all, or those of a mask), whose ids count from 1."""
        found = self.detections if kept is None else self.detections[kept]
        return hotcoco_evaluation(self.truth, found, len(self.images), len(self.names))


def analyze(metric: COCOMetric) -> Analysis:
    """Compute the figures of a report from the detections that a metric has collected.

    Raises:
        DataError: hotcoco is not installed, or no images were evaluated.
    """
    require_hotcoco(DataError)
    numbers = metric.compute()
    if not metric.image_ids:
        raise DataError("a report needs images: none of the data set was evaluated")
    boxes = numbered_boxes(metric)
    everything = boxes.evaluation()
    everything.accumulate()
    state = detection_states(everything.image_diagnostics(iou_thr=0.5), len(boxes.detections))
    classes = _classes(boxes, everything, state)
    thresholds = np.array([one.threshold for one in classes])
    is_kept = (state != "") & (boxes.detections["score"] >= thresholds[boxes.detections["category_id"] - 1])
    kept = boxes.evaluation(is_kept)
    diagnostics = kept.image_diagnostics(iou_thr=0.5, score_thr=SURE)
    found = boxes.detections[is_kept]
    summaries = diagnostics["img_summary"].items()
    return Analysis(
        numbers=numbers,
        classes=classes,
        images=boxes.images,
        detections=len(boxes.detections),
        tide=everything.tide_errors(),
        confusion=np.asarray(kept.confusion_matrix(iou_thr=0.5)["matrix"]).astype(np.int64),
        calibration=everything.calibration(),
        judged=_judged(boxes, found, diagnostics),
        truth=_truth(boxes),
        f1={boxes.images[i - 1]: one["f1"] for i, one in summaries if one["tp"] + one["fp"] + one["fn"]},
        label_errors=_label_errors(boxes, found, diagnostics),
        evaluation=everything,
    )


def compare(old: Analysis, new: Analysis) -> dict[str, Any]:
    """hotcoco's comparison of two models on the same images: `deltas`, new minus old, and their intervals in `ci`.

    The intervals come from 1,000 draws of the images, or fewer, and no less than 100, of more than 1,000 images.
    """
    import hotcoco

    samples = max(100, min(1000, 1_000_000 // len(new.images)))

    return dict(hotcoco.compare(old.evaluation, new.evaluation, n_bootstrap=samples))


def detection_states(diagnostics: dict[str, Any], count: int) -> np.ndarray:
    """What hotcoco's `image_diagnostics` says of each of `count` detections: "tp", "fp", …

    "" for those beyond COCO's 100 of an image, which are not judged.
    """
    return np.array([diagnostics["dt_status"].get(i + 1, "") for i in range(count)], dtype="U7")


def numbered_boxes(metric: COCOMetric) -> NumberedBoxes:
    """The annotations and the detections of a metric, with positions as ids."""
    images, categories = sorted(metric.image_ids), list(metric.category_ids)
    parts = [numbered(rows, images, categories) for rows in (metric.ground_truth(), metric.detections)]
    return NumberedBoxes(images, list(metric.class_names), *parts)


def _classes(boxes: NumberedBoxes, evaluation: Any, state: np.ndarray) -> list[ClassNumbers]:
    precision = np.asarray(evaluation.eval["precision"])[..., -1]
    classes = []
    for index, name in enumerate(boxes.names):
        mine = (boxes.detections["category_id"] == index + 1) & np.isin(state, ("tp", "fp"))
        scores, hits = boxes.detections["score"][mine], state[mine] == "tp"
        count = int(((boxes.truth["category_id"] == index + 1) & ~boxes.truth["iscrowd"]).sum())
        ap = {f"AP{'' if area == 'all' else area[0]}": _mean(precision[:, :, index, i]) for i, area in enumerate(AREAS)}
        ap |= {"AP50": _mean(precision[0, :, index, 0]), "AP75": _mean(precision[5, :, index, 0])}
        curve = np.where(precision[0, :, index, 0] < 0, np.nan, precision[0, :, index, 0])
        best = best_threshold(scores, hits, count)
        f1 = f1_curve(scores, hits, count)
        classes.append(ClassNumbers(name, count, ap, curve, f1, best, boxes.names.count(name) == 1))
    return classes


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _judged(boxes: NumberedBoxes, found: np.ndarray, diagnostics: dict[str, Any]) -> dict[int, list[JudgedBox]]:
    judged: dict[int, list[JudgedBox]] = {image: [] for image in boxes.images}
    state = detection_states(diagnostics, len(found))
    starts = np.searchsorted(np.sort(found["image_id"]), range(1, len(boxes.images) + 2))
    order = np.argsort(found["image_id"], kind="stable")
    truth_of = _rows_by_image(boxes.truth, len(boxes.images))
    for number, image in enumerate(boxes.images):
        mine = order[starts[number] : starts[number + 1]]
        truth = boxes.truth[truth_of[number]]
        for index in mine[state[mine] == "tp"]:
            judged[image].append(_judged_box(CORRECT, found[index], found[index]["score"].item()))
        wrong = found[mine[state[mine] == "fp"]]
        kinds = error_kinds(wrong["bbox"], wrong["category_id"], truth["bbox"], truth["category_id"])
        judged[image] += [_judged_box(kind, row, row["score"].item()) for kind, row in zip(kinds, wrong)]
    for number, status in diagnostics["gt_status"].items():
        if status == "fn":
            row = boxes.truth[number - 1]
            judged[boxes.images[row["image_id"] - 1]].append(_judged_box(MISSED, row, None))
    return judged


def _judged_box(kind: str, row: np.ndarray, score: float | None) -> JudgedBox:
    return JudgedBox(kind, int(row["category_id"]) - 1, score, _corners(row))


def _corners(row: np.ndarray) -> tuple[float, float, float, float]:
    x, y, width, height = row["bbox"].tolist()
    return x, y, x + width, y + height


def _truth(boxes: NumberedBoxes) -> dict[int, np.ndarray]:
    rows = boxes.truth
    corners = np.concatenate([rows["bbox"][:, :2], rows["bbox"][:, :2] + rows["bbox"][:, 2:]], axis=1)
    table = np.column_stack([rows["category_id"] - 1, corners])
    return {image: table[found] for image, found in zip(boxes.images, _rows_by_image(rows, len(boxes.images)))}


def _rows_by_image(rows: np.ndarray, images: int) -> list[np.ndarray]:
    """The positions of the rows of each image."""
    order = np.argsort(rows["image_id"], kind="stable")
    return np.split(order, np.searchsorted(rows["image_id"][order], range(2, images + 1)))


def _label_errors(boxes: NumberedBoxes, found: np.ndarray, diagnostics: dict[str, Any]) -> list[LabelError]:
    errors = []
    for one in sorted(diagnostics["label_errors"], key=lambda one: -one["dt_score"]):
        label, score = int(one["dt_category_id"]) - 1, float(one["dt_score"])
        said = f"the model sees {boxes.names[label]} with {score:.2f}"
        if one["type"] == "wrong_label":
            kind, text = "wrong class", f"labeled {boxes.names[int(one['gt_category_id']) - 1]}, but {said}"
        else:
            kind, text = "not labeled", f"nothing is labeled where {said}"
        box = _corners(found[one["dt_id"] - 1])
        errors.append(LabelError(boxes.images[one["image_id"] - 1], kind, text, label, score, box))
    return errors
