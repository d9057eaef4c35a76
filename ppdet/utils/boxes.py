"""Clipping boxes to their images, and telling which have area."""

import numpy as np

SMALLEST_SIDE = 1e-5  # pixels; a box with a shorter side has no area


def clip_to_image(
    boxes: np.ndarray, height: float | np.ndarray, width: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to their images.

    Args:
        boxes: (M, 4) x1, y1, x2, y2 in pixels.
        height: of the one image of all boxes, or (M,) of each box's image, in pixels.
        width: likewise.

    Returns:
        The clipped boxes, and (M,) bool, whether they still have area.
    """
    clipped = np.clip(boxes, 0, np.stack([width, height] * 2, axis=-1).astype(boxes.dtype))
    return clipped, have_area(clipped)


def have_area(boxes: np.ndarray) -> np.ndarray:
    """(M,) bool, whether boxes (M, 4) x1, y1, x2, y2 in pixels have area. Boxes with NaN have none."""
    with np.errstate(invalid="ignore"):  # inf - inf
        return (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
