"""Boxes as NumPy arrays: clipping to an image, area, overlap, and the two ways to write them."""

import numpy as np

SMALLEST_SIDE = 1e-5  # pixels; a box with a shorter side counts as empty


def in_order(rows: np.ndarray) -> np.ndarray:
    """Sort detections (M, 6) of [class, score, x1, y1, x2, y2] by class, and then from the highest score to the lowest.

    Equal scores are sorted by position, so that the order in which the detections come does not matter.
    """
    return rows[np.lexsort((*rows.T[:1:-1], -rows[:, 1], rows[:, 0]))]


def by_class(rows: np.ndarray) -> list[np.ndarray]:
    """Rows (M, 6) of each class, in the order of `in_order`; one part without rows if M is 0."""
    rows = in_order(rows)
    return np.split(rows, np.flatnonzero(np.diff(rows[:, 0])) + 1)


def clip_to_image(
    boxes: np.ndarray, height: float | np.ndarray, width: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the area of their image.

    Args:
        boxes: (M, 4) x1, y1, x2, y2 in pixels.
        height, width: size of the image in pixels, or (M,) the size of each box's own image.

    Returns:
        The clipped boxes (M, 4), and (M,) booleans: whether a box still has area.
    """
    clipped = np.clip(boxes, 0, np.stack([width, height] * 2, axis=-1).astype(boxes.dtype))
    return clipped, have_area(clipped)


def to_corners(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (M, 4) x, y, width, height, as COCO's files have them, as x1, y1, x2, y2."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_sizes(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (M, 4) x1, y1, x2, y2 as x, y, width, height: the inverse of `to_corners`."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def have_area(boxes: np.ndarray) -> np.ndarray:
    """Return (M,) booleans: whether each box of (M, 4) x1, y1, x2, y2 in pixels has area. Boxes with NaN have none."""
    x1, y1, x2, y2 = boxes.T  # whole columns: `.all(axis=1)` over two numbers in each row takes longer
    return (x2 - x1 > SMALLEST_SIDE) & (y2 - y1 > SMALLEST_SIDE)


def pairwise_overlap(boxes: np.ndarray, others: np.ndarray, *, of_smaller: bool = False) -> np.ndarray:
    """Return the IoU (K, M) of boxes (K, 4) with others (M, 4), x1, y1, x2, y2.

    It is 0 if neither of the two has area.

    Args:
        of_smaller: return the intersection divided by the area of the smaller box, in place of the IoU.
    """
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    inner = np.maximum(high - low, 0).prod(axis=2)
    area, other_area = ((one[:, 2:] - one[:, :2]).prod(axis=1) for one in (boxes, others))
    area = area[:, None]
    whole = np.minimum(area, other_area) if of_smaller else area + other_area - inner
    return np.divide(inner, whole, out=np.zeros_like(inner), where=whole > 0)
