"""The kind of error of each detection, as TIDE names them: of the right class, in the right place, found once."""

import numpy as np

from ppdet.utils.boxes import pairwise_overlap, to_corners

CORRECT, MISSED = "correct", "missed"
WRONG_CLASS, POOR_PLACE, BOTH = "wrong class", "poor place", "wrong class and place"
TWICE, BACKGROUND = "found twice", "nothing there"
ERRORS = (MISSED, WRONG_CLASS, POOR_PLACE, BOTH, TWICE, BACKGROUND)
MATCH, TOUCH = 0.5, 0.1  # least overlap (IoU) of a match, and of a detection that concerns a box at all


def error_kinds(
    boxes: np.ndarray, classes: np.ndarray, truth_boxes: np.ndarray, truth_classes: np.ndarray
) -> list[str]:
    """What is wrong with the false detections of an image.

    Args:
        boxes, classes: (M, 4) x, y, width, height and (M,) of detections that match no box of their class.
        truth_boxes, truth_classes: (K, 4) and (K,) of all annotated boxes of the image.

    Returns:
        One of ERRORS for each detection, never MISSED.
    """
    if len(truth_boxes) == 0:
        return [BACKGROUND] * len(boxes)
    found = pairwise_overlap(to_corners(boxes), to_corners(truth_boxes))
    is_same = classes[:, None] == truth_classes[None]
    same = np.where(is_same, found, 0).max(axis=1)
    other = np.where(is_same, 0, found).max(axis=1)
    kinds = []
    for mine, theirs in zip(same.tolist(), other.tolist()):
        if mine >= MATCH:
            kinds.append(TWICE)
        elif theirs >= MATCH:
            kinds.append(WRONG_CLASS)
        elif mine >= TOUCH:
            kinds.append(POOR_PLACE)
        else:
            kinds.append(BOTH if theirs >= TOUCH else BACKGROUND)
    return kinds
