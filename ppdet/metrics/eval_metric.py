"""The base class of user-defined evaluation metrics, which are computed in addition to COCO's."""

import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np

from ppdet.metrics.coco_metric import COCOMetric
from ppdet.metrics.coco_statistics import STATISTICS
from ppdet.utils.boxes import to_corners
from ppdet.utils.errors import ConfigError, nearest
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
STUDENT = "student_"  # in front of the names of the student's numbers, where a teacher is evaluated too


class EvaluatedImage(NamedTuple):
    """The detections in an image, and its annotated boxes. Coordinates are x1, y1, x2, y2 in pixels of the image.

    image_id: its `im_id` in the data set.
    detections: (M, 6) float64 [class from 0, score, x1, y1, x2, y2], in the order in which the detector gave them.
    boxes: (K, 4) float64.
    classes: (K,) int64 from 0, one for each of `boxes`.
    is_crowd: (K,) bool; true for a box around a group of objects, in which detections do not count as wrong.
    """

    image_id: int
    detections: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray


class EvalMetric:
    """Base class of user-defined metrics.

    Derive a class, decorate it with `@register`, and name it in YAML: `eval_metrics: [MyMetric]`. Each evaluation calls
    its methods in this order: `begin`, `update` for each image, `result`. It does so on rank 0 alone, with the
    detections of all ranks.

    Attributes:
        number_names: names of the numbers that `result` returns, if they are known before an evaluation. A name that
            another metric has, or a wrong `best_by`, is then told when a run starts, not after its first epoch. None:
            they are not known.
    """

    number_names: Sequence[str] | None = None

    def begin(self, class_names: Sequence[str]) -> None:
        """Called when an evaluation begins: forget the images of the one before."""
        raise NotImplementedError

    def update(self, image: EvaluatedImage) -> None:
        """Called once for each evaluated image."""
        raise NotImplementedError

    def result(self) -> dict[str, float]:
        """Called last: return numbers by name.

        They appear in the log, in history.jsonl and on the boards beside COCO's. `best_by: NAME` chooses best_model by
        one of them, for which higher must be better, and which may be negative. NaN means undefined, as -1 in COCO's
        numbers, and is worse than all numbers; infinity counts as NaN.
        """
        raise NotImplementedError


def check_number_names(metrics: Sequence[EvalMetric], best_by: str | None) -> None:
    """Check the names of numbers that are known before an evaluation, see `EvalMetric.number_names`.

    A warning tells if none is `best_by`. It is no error, since a hook may add numbers.

    Args:
        metrics: those of `eval_metrics`, whose numbers come beside COCO's.
        best_by: the number by which best_model is chosen; None where none is.

    Raises:
        ConfigError: two metrics have numbers of one name.
    """
    known = set(STATISTICS)
    for metric in metrics:
        names = metric.number_names or ()
        if isinstance(names, str):
            what = type(metric).__name__
            raise ConfigError(f"eval_metrics: {what}.number_names is {names!r:.60}; expected a list of names")
        require_new_names(metric, known, names)
        known.update(names)
    if best_by is None or any(metric.number_names is None for metric in metrics):
        return
    if best_by.removeprefix(STUDENT) not in known:
        logger.warning(
            "best_by: no metric has the number %r: the first evaluation will end the run unless a hook adds it%s",
            *(best_by, nearest(best_by, known)),
        )


def require_new_names(metric: EvalMetric, known: Iterable[str], names: Iterable[str]) -> None:
    """Raise ConfigError if one of the names of a metric's numbers is one that another metric has."""
    taken = ", ".join(sorted(set(known) & set(names)))
    if taken:
        what = type(metric).__name__
        raise ConfigError(f"eval_metrics: {what} gives numbers that another metric has: {taken}")


def compute_own(metric: EvalMetric, detections: COCOMetric) -> dict[str, float]:
    """The numbers of a metric for the images that a COCOMetric has collected.

    Raises:
        ConfigError: what the metric returned is not a mapping of names to numbers.
    """
    metric.begin(list(detections.class_names))
    for image in evaluated_images(detections):
        metric.update(image)
    numbers, what = metric.result(), type(metric).__name__
    is_text_to_number = isinstance(numbers, dict) and all(
        isinstance(name, str) and isinstance(value, Real) for name, value in numbers.items()
    )
    if not is_text_to_number:
        raise ConfigError(
            f"eval_metrics: {what}.result() returned {numbers!r:.80}; expected numbers by name, as a dict"
        )
    return {name: float(value) if math.isfinite(value) else math.nan for name, value in numbers.items()}


def evaluated_images(collected: COCOMetric) -> Iterator[EvaluatedImage]:
    """Yield each image that a COCOMetric has collected, with its annotated boxes clipped to the image."""
    rows, truth = collected.detections, collected.ground_truth()
    class_of = {category: index for index, category in enumerate(collected.category_ids)}
    truth = truth[np.isin(truth["category_id"], list(class_of))]
    rows, truth = (part[np.argsort(part["image_id"], kind="stable")] for part in (rows, truth))
    for image in collected.image_ids:
        found, annotated = (
            part[np.searchsorted(part["image_id"], image) : np.searchsorted(part["image_id"], image, "right")]
            for part in (rows, truth)
        )
        classes = [class_of[category] for category in found["category_id"].tolist()]
        yield EvaluatedImage(
            image,
            np.column_stack([np.array(classes, dtype=np.float64), found["score"], to_corners(found["bbox"])]),
            to_corners(annotated["bbox"]),
            np.array([class_of[category] for category in annotated["category_id"].tolist()], dtype=np.int64),
            annotated["iscrowd"],
        )
