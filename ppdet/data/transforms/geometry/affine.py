"""Moving an image and its boxes by a 3 x 3 matrix.

Matrices map points (x, y, 1) of an image to those of the result. Points are in pixels as boxes are: the pixel in column
3 reaches from x = 3 to x = 4.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ppdet.data.transforms.box_fields import remaining_share
from ppdet.utils.boxes import clip_to_image

MAX_DEGREES, MAX_SHEAR = 360, 80  # of what transforms may draw, in degrees
MAX_SCALE = 20.0
NO_PERSPECTIVE = (0.0, 0.0, 1.0)  # the last row of a matrix that keeps parallel lines parallel


def affine_matrix(
    *,
    degrees: float = 0.0,
    scale: float = 1.0,
    shear: tuple[float, float] = (0.0, 0.0),
    translate: tuple[float, float] = (0.0, 0.0),
    center: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Return the (3, 3) matrix that rotates, scales, shears and then moves an image.

    Args:
        degrees: angle of the rotation around `center`, counterclockwise as one sees the image.
        scale: factor of both sides, above 0.
        shear: angles (x, y) in degrees: x changes by tan(shear x) times y, and y by tan(shear y) times x.
        translate: (x, y) in pixels of the result.
        center: (x, y), the point that only `translate` moves.
    """
    cos, sin = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    # y points downwards.
    rotation = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    shear_x, shear_y = np.tan(np.deg2rad(shear))
    shearing = np.array([[1.0, shear_x, 0.0], [shear_y, 1.0, 0.0], [0.0, 0.0, 1.0]])
    moved = (center[0] + translate[0], center[1] + translate[1])
    return translation(*moved) @ shearing @ rotation @ translation(-center[0], -center[1])


def translation(x: float, y: float) -> np.ndarray:
    """Return the (3, 3) matrix that moves points by x and y pixels."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def warp_image(
    image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], fill: Sequence[float], interp: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Return an image (H, W, 3), moved by a matrix, as an image of `size` (h, w) with the same type.

    Args:
        fill: (3,) the color where the result shows nothing of the image.
        interp: OpenCV's number of the interpolation, see Resize.
    """
    # OpenCV's points are pixel centers: column 3 is at x = 3.
    centers = translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5)
    color = tuple(float(value) for value in fill)
    if tuple(matrix[2]) == NO_PERSPECTIVE:
        return cv2.warpAffine(image, centers[:2], size[::-1], flags=interp, borderValue=color)
    return cv2.warpPerspective(image, centers, size[::-1], flags=interp, borderValue=color)


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Move boxes by a matrix, and clip them to an image of `size` (h, w).

    Args:
        boxes: (M, 4) x1, y1, x2, y2 in pixels.

    Returns:
        (M, 4) the boxes around the four moved corners of each box, clipped; and (M,) the share of the area of each that
        is left after clipping, from 0 to 1.
    """
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2).astype(np.float64)
    moved = np.column_stack([corners, np.ones(len(corners))]) @ matrix.T
    points = (moved[:, :2] / moved[:, 2:]).reshape(-1, 4, 2)
    whole = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    clipped, _ = clip_to_image(whole, *size)
    return clipped.astype(boxes.dtype), remaining_share(whole, clipped)


def warp_sample(
    sample: dict, matrix: np.ndarray, size: tuple[int, int], *, fill: Sequence[float], interp: int = cv2.INTER_LINEAR
) -> tuple[dict, np.ndarray]:
    """Move a sample's image and boxes by a matrix, and clip to `size` (h, w), which becomes its `im_shape`.

    Returns:
        The sample, and the (M,) share of each box that is left, for `box_fields.drop_lost_boxes`.
    """
    sample["image"] = warp_image(sample["image"], matrix, size, fill, interp)
    sample["im_shape"] = np.array(size, dtype=np.float32)
    if "gt_bbox" not in sample:
        return sample, np.ones(0)
    sample["gt_bbox"], share = warp_boxes(sample["gt_bbox"], matrix, size)
    return sample, share
