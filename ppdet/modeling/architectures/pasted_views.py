"""CutMix of unlabeled images, whose pseudo-labels are pasted as their pixels are.

"CutMix" (Yun et al., arXiv:1905.04899) pastes a rectangle of one image into another. French et al. (arXiv:1906.01916)
paste a teacher's dense predictions for both images in the same way, which gives the target of the mixed image. A
detector's dense maps allow the same: at a location in the rectangle, logits, distances and quality are those that the
teacher has for the pasted image. The teacher sees whole images, so that a box that the rectangle cuts keeps its size.
"""

import numpy as np
import paddle
from paddle import Tensor

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.utils.locations import Locations


def draw_rectangles(rng: np.random.Generator, images: int, height: int, width: int, prob: float) -> np.ndarray:
    """Return a rectangle for each image, (N, 4) int64 of x1, y1, x2, y2 in pixels; x2 and y2 lie outside of it.

    An image has one with probability `prob`; otherwise all four numbers are 0. Its shape is that of the image, and its
    share of the area is uniform in 0..1, before the part beyond the border is cut off; its center is uniform in the
    image (arXiv:1905.04899, section 3.1).
    """
    size = np.array([width, height])
    sides = size * np.sqrt(rng.uniform(size=(images, 1)))
    centers = size * rng.uniform(size=(images, 2))
    corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=1)
    rectangles = np.clip(np.rint(corners), 0, np.tile(size, 2)).astype(np.int64)
    return rectangles * (rng.uniform(size=(images, 1)) < prob)


def paste_images(images: Tensor, rectangles: np.ndarray) -> Tensor:
    """Return images (N, 3, H, W) with rectangles (N, 4), each filled with the pixels of the image before it.

    The first image gets those of the last one. A single image stays as it is.
    """
    height, width = images.shape[2:]
    return _paste(images, rectangles, np.arange(width), np.arange(height))


def paste_maps(maps: DenseMaps, rectangles: np.ndarray, locations: Locations) -> DenseMaps:
    """Return the maps of N images as those of `paste_images`: in a rectangle, of the image before.

    A location is in a rectangle if its pixel is.
    """
    grids = locations.levels_of(maps.logits)
    axes = []
    for grid in grids:
        x, y = (np.arange(count) + grid.shift for count in (grid.columns, grid.rows))
        axes.append((x * grid.step_x, y * grid.step_y))
    pasted = ([_paste(level, rectangles, *axis) for level, axis in zip(levels, axes)] for levels in maps)
    return DenseMaps(*pasted)


def _paste(values: Tensor, rectangles: np.ndarray, x: np.ndarray, y: np.ndarray) -> Tensor:
    """Return values (N, K, H, W), those of the image before where column x (W,) and row y (H,) are in a rectangle."""
    x1, y1, x2, y2 = rectangles.T[:, :, None]
    columns, rows = (x1 <= x) & (x < x2), (y1 <= y) & (y < y2)
    inside = paddle.to_tensor((rows[:, :, None] & columns[:, None, :])[:, None])
    return paddle.where(inside, values.roll(1, axis=0), values)
