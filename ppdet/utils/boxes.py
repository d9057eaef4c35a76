"""Boxes and the image that they are drawn on."""

import numpy as np

SMALLEST_SIDE = 1e-5  # pixels; a box with a shorter side has no area


def clip_to_image(
    boxes: np.ndarray, height: float | np.ndarray, width: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes (M, 4) x1, y1, x2, y2 in pixels to an image, or each to its own where height and width are (M,).

    Returns them, and (M,) which of them still have area.
    """
    clipped = np.clip(boxes, 0, np.stack([width, height] * 2, axis=-1).astype(boxes.dtype))
    return clipped, have_area(clipped)


def have_area(boxes: np.ndarray) -> np.ndarray:
    """(M,) whether boxes (M, 4) x1, y1, x2, y2 in pixels have area; those with NaN have none."""
    return (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
