"""Clipping boxes to an image, and finding boxes without area."""

import numpy as np

SMALLEST_SIDE = 1e-5  # pixels; a box with a shorter side counts as empty


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


def have_area(boxes: np.ndarray) -> np.ndarray:
    """Return (M,) booleans: whether each box of (M, 4) x1, y1, x2, y2 in pixels has area. Boxes with NaN have none."""
    return (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
