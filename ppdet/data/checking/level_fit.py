"""How the boxes of a data set fit the feature levels of FCOS at an input size: what the targets of training will be."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ppdet.data.transforms.batches.targets import Gt2FCOSTarget

STARVING = 0.01  # share of the positive locations below which a level hardly learns


@dataclass(frozen=True)
class LevelFit:
    """The targets of K boxes on L levels.

    Attributes:
        strides: (L,) of the levels, finest first.
        positives: (L,) positive locations of each level.
        located: (L,) boxes that have a positive location on each level; a box may have some on two.
        sides: (K,) square root of each box's area, in pixels of the network's input.
        classes: (K,) class of each box.
        is_missed: (K,) whether a box has no location although no other box is in its way: it is too small, or too thin.
        is_hidden: (K,) whether smaller boxes take all locations of a box.
    """

    strides: tuple[int, ...]
    positives: np.ndarray
    located: np.ndarray
    sides: np.ndarray
    classes: np.ndarray
    is_missed: np.ndarray
    is_hidden: np.ndarray

    def starving(self) -> list[int]:
        """Numbers of the levels that have less than a hundredth of the positive locations."""
        total = self.positives.sum()
        return [level for level, count in enumerate(self.positives.tolist()) if total and count < STARVING * total]


def scale_of(height: float, width: float, short: float, long: float) -> float:
    """The factor by which Resize with keep_ratio scales an image to a shorter side `short`, or a longer one `long`."""
    return min(short / min(height, width), long / max(height, width))


def fit_levels(
    images: Iterable[tuple[np.ndarray, np.ndarray, tuple[int, int]]], target: Gt2FCOSTarget, short: int, long: int
) -> LevelFit:
    """Make the targets of all images, and see which boxes and levels have them.

    Args:
        images: boxes (M, 4) x1, y1, x2, y2 in pixels of the image, their classes (M, 1), and (height, width).
        target: the transform that makes the targets.
        short, long: of the resized images, see `scale_of`. Images are padded to multiples of the coarsest stride.
    """
    strides = tuple(target.locations.strides)
    positives, located = np.zeros(len(strides), np.int64), np.zeros(len(strides), np.int64)
    columns: list[tuple[np.ndarray, ...]] = [(np.zeros(0), np.zeros(0, int), np.zeros(0, bool), np.zeros(0, bool))]
    for boxes, classes, (height, width) in images:
        scale = scale_of(height, width, short, long)
        boxes = (boxes * scale).astype(np.float32)
        size = [-(-max(1, round(side * scale)) // strides[-1]) * strides[-1] for side in (height, width)]
        numbers = np.arange(len(boxes))
        owners = target.assign(boxes, numbers[:, None], *size)[0] - 1  # the number of the box at each location
        ends = np.cumsum([grid.rows * grid.columns for grid in target.locations.levels(*size)])
        for level, part in enumerate(np.split(owners, ends[:-1])):
            positives[level] += (part >= 0).sum()
            located[level] += len(np.unique(part[part >= 0]))
        has_none = ~np.isin(numbers, owners)
        missed = has_none.copy()
        for number in np.flatnonzero(has_none):
            alone = boxes[number : number + 1]
            missed[number] = not target.assign(alone, np.zeros((1, 1), int), *size)[0].any()
        sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
        columns.append((sides, classes.reshape(-1), missed, has_none & ~missed))
    sides, labels, missed, hidden = (np.concatenate(column) for column in zip(*columns))
    return LevelFit(strides, positives, located, sides, labels, missed, hidden)
