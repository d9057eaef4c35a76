"""Score thresholds that differ from class to class: what infer_cfg.yml says, and which detections are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppdet.utils.disk.files import is_number

# One least score for all classes, or one for each, (C,).
Thresholds = float | np.ndarray
USUAL = 0.5


def is_kept(scores: np.ndarray, classes: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Whether each score (M,) is at least the threshold of its class, bool (M,).

    Args:
        classes: (M,) indices; a class beyond the thresholds, which has no name, has the usual threshold.

    Both are compared in float32, in which models compute: its 0.7 is less than that of infer_cfg.yml, and reaches it.
    """
    scores = scores.astype(np.float32)
    if np.ndim(thresholds) == 0:
        return scores >= np.float32(thresholds)
    limits = np.append(thresholds, USUAL).astype(np.float32)
    return scores >= limits[np.minimum(classes.astype(np.int64), len(limits) - 1)]


def in_words(thresholds: Thresholds) -> str:
    """What a line of the log says of the detections that are kept."""
    if np.ndim(thresholds) == 0:
        return f"with a score of at least {thresholds:g}"
    return "with at least the score threshold of their class"


def usual_threshold(settings: Mapping[str, Any]) -> float:
    """`draw_threshold` of an exported model, which counts for classes without a threshold of their own."""
    return USUAL if settings.get("draw_threshold") is None else settings["draw_threshold"]


def thresholds_of(settings: Mapping[str, Any], class_names: Sequence[str]) -> Thresholds:
    """The thresholds of an exported model: `class_thresholds` of infer_cfg.yml, by name, or else its `draw_threshold`.

    Raises:
        ValueError: one is not a number from 0 to 1, or is of a class that the model does not have.
    """
    by_name = settings.get("class_thresholds") or {}
    usual = usual_threshold(settings)
    if not isinstance(by_name, Mapping):
        raise ValueError(f"class_thresholds is {by_name!r:.60}; expected a number for each class, by its name")
    by_name = {str(name): value for name, value in by_name.items()}
    named = {"draw_threshold": usual, **{f"class_thresholds.{name}": value for name, value in by_name.items()}}
    for name, value in named.items():
        if not is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name:.60} is {value!r:.60}; expected a number from 0 to 1")
    strange = [name for name in by_name if name not in class_names]
    if strange:
        raise ValueError(f"class_thresholds names {strange[0]!r:.60}, which is not in label_list")
    return np.array([by_name.get(name, usual) for name in class_names], np.float64) if by_name else float(usual)
