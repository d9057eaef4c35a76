"""Sliced inference: detect in overlapping windows of a large image, and merge the detections.

Only NumPy is used, so that every engine, `ppdet eval` and `ppdet infer` can share it. docs/SLICING.md explains it.
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from ppdet.deploy.option_group import OptionGroup, is_real
from ppdet.utils.boxes import by_class, in_order, pairwise_overlap
from ppdet.utils.errors import DeployError

COMBINE_METHODS = ("nms", "nmm", "concat")
MATCH_METRICS = ("iou", "ios")
SMALLEST_SIDE = 32  # smallest side of a window on the command line: smaller windows would be hundreds of thousands
OPTIONS = OptionGroup(
    "slice_infer",
    "Slicing",
    {
        "slice_size": "size",
        "overlap_ratio": "overlap",
        "combine_method": "combine",
        "match_threshold": "match_threshold",
        "match_metric": "match_metric",
    },
)


@dataclass(frozen=True)
class Slicing:
    """Settings for cutting images into windows and for merging the windows' detections.

    Args:
        size: height and width of a window in pixels.
        overlap: the part of a window's height and width that the next window shares with it, 0 to below 1.
        combine: `nms` keeps the box with the highest score of those that match. `nmm` (non-maximum merging) keeps that
            box too, and enlarges it to enclose the boxes that match it. `concat` keeps all boxes. Boxes of different
            classes never match.
        match_threshold: two boxes match if their overlap is at least this, above 0 to 1.
        match_metric: how overlap is measured. `iou`: intersection over union. `ios`: intersection over the smaller
            box, which also matches an object with the part of it that the edge of a window has cut off.

    Raises:
        DeployError: a value is out of its range.
    """

    size: tuple[int, int] = (640, 640)
    overlap: tuple[float, float] = (0.25, 0.25)
    combine: str = "nms"
    match_threshold: float = 0.6
    match_metric: str = "ios"

    def __post_init__(self) -> None:
        for name in ("size", "overlap"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(map(is_real, value)):
                OPTIONS.refuse(name, value, "two numbers, for height and width")
            object.__setattr__(self, name, tuple(value))  # the dataclass is frozen
        if not all(isinstance(side, Integral) and side >= 1 for side in self.size):
            OPTIONS.refuse("size", self.size, "two whole numbers of at least 1")
        if not all(0 <= share < 1 for share in self.overlap):
            OPTIONS.refuse("overlap", self.overlap, "two numbers from 0 to below 1")
        if self.combine not in COMBINE_METHODS:
            OPTIONS.refuse("combine", self.combine, f"one of {', '.join(COMBINE_METHODS)}")
        if not is_real(self.match_threshold) or not 0 < self.match_threshold <= 1:
            OPTIONS.refuse("match_threshold", self.match_threshold, "a number above 0 and at most 1")
        if self.match_metric not in MATCH_METRICS:
            OPTIONS.refuse("match_metric", self.match_metric, f"one of {', '.join(MATCH_METRICS)}")

    def __str__(self) -> str:
        merged = f", {self.match_metric} {self.match_threshold:g}" if self.combine != "concat" else ""
        height, width = self.size
        return f"windows of {height}x{width}, overlap {self.overlap[0]:g} {self.overlap[1]:g}, {self.combine}{merged}"

    def windows(self, height: int, width: int) -> np.ndarray:
        """Windows that cover an image, (K, 4) int64 of x1, y1, x2, y2, row by row.

        They equal SAHI's get_slice_bboxes: the last window of a row or column is moved inwards, so that all
        windows have full size. If a side of the image is shorter than a window, windows are as long as that side.
        """
        y1, x1 = (
            _window_starts(length, side, side - int(share * side))
            for length, side, share in zip((height, width), self.size, self.overlap)
        )
        y2, x2 = np.minimum(y1 + self.size[0], height), np.minimum(x1 + self.size[1], width)
        corners = np.meshgrid(y1, x1, indexing="ij") + np.meshgrid(y2, x2, indexing="ij")
        top, left, bottom, right = (corner.ravel() for corner in corners)
        return np.stack([left, top, right, bottom], axis=1)

    def count(self, height: int, width: int) -> int:
        """How many windows `windows` would return; an image has thousands of them only if they are tiny."""
        steps = (side - int(share * side) for side, share in zip(self.size, self.overlap))
        rows, columns = (
            -(-max(length - side, 0) // step) + 1 for length, side, step in zip((height, width), self.size, steps)
        )
        return rows * columns

    def merge(self, rows: np.ndarray) -> np.ndarray:
        """Merge the detections of all windows of an image.

        Args:
            rows: (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the image, in any order.

        Returns:
            (K, 6), sorted by class and then from the highest score to the lowest, of the same dtype.
        """
        if self.combine == "concat":
            return in_order(rows)
        with np.errstate(invalid="ignore"):  # a NaN matches nothing
            return np.concatenate([self._merge_class(part) for part in by_class(rows)])

    def _merge_class(self, rows: np.ndarray) -> np.ndarray:
        """`merge` for rows (M, 6) of one class, sorted by score."""
        boxes = np.array(rows[:, 2:], np.float64, order="F")  # each coordinate is contiguous: every step reads it whole
        waiting, kept = np.ones(len(rows), bool), []
        for best in range(len(rows)):
            if not waiting[best]:
                continue
            kept.append(best)
            later = slice(best + 1, None)
            matching = overlaps(boxes[best], boxes[later], self.match_metric) >= self.match_threshold
            if self.combine == "nmm":
                boxes[best] = self._enclose(boxes[best], boxes[later][matching & waiting[later]])
            waiting[later] &= ~matching
        merged = rows[kept]
        if self.combine == "nmm":
            merged[:, 2:] = boxes[kept]
        return merged

    def _enclose(self, box: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Enlarge a box (4,) by each box in `others` (M, 4) that matches it, one after the other."""
        for other in others:
            if overlaps(box, other[None], self.match_metric)[0] >= self.match_threshold:
                box = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
        return box


def overlaps(box: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    """Overlap (M,), 0..1, of a box (4,) with others (M, 4), all x1, y1, x2, y2; 0 for a box without area.

    Args:
        metric: iou or ios, see `Slicing`.
    """
    return pairwise_overlap(box[None], others, of_smaller=metric == "ios")[0]


class Window(NamedTuple):
    """One window of an image on its way to the model.

    key: the caller's name for the image. box: (4,) x1, y1, x2, y2 of the window in pixels of the image. following: how
    many windows of the same image come after it. sample: what the model takes.
    """

    key: Any
    box: np.ndarray
    following: int
    sample: Any


class WindowMerger:
    """Collects the detections of windows, which come image by image, and returns the detections of whole images."""

    def __init__(self, slicing: Slicing) -> None:
        self.slicing = slicing
        self._parts: list[np.ndarray] = []  # rows of the image whose windows are coming

    def add(
        self,
        keys: Sequence[Any],
        windows: Sequence[np.ndarray],
        following: Sequence[int],
        detections: Sequence[np.ndarray],
    ) -> list[tuple[Any, np.ndarray]]:
        """Take the detections of N windows.

        The number of detections of an image has no limit. The only window of an image keeps its detections unchanged.

        Args:
            keys, windows, following: see `Window`; N of each.
            detections: N arrays (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the window.

        Returns:
            Key and rows (M, 6), in pixels of the image, of each image that is complete with these windows.
        """
        images = []
        for key, window, more, rows in zip(keys, windows, following, detections):
            rows = rows.copy()
            rows[:, 2:] += np.tile(window[:2], 2).astype(rows.dtype)
            self._parts.append(rows)
            if not more:
                parts, self._parts = self._parts, []
                images.append((key, self.slicing.merge(np.concatenate(parts)) if len(parts) > 1 else rows))
        return images


def detect_windows(
    run: Callable[[list], Sequence[np.ndarray]], windows: Iterable[Window], batch_size: int, slicing: Slicing | None
) -> Iterator[tuple[Any, np.ndarray]]:
    """Detect in windows, in batches that images may share.

    Args:
        run: detects on a list of samples; returns rows (M, 6) of each.
        windows: all windows of one image, then all windows of the next; without `slicing`, each image is one window.

    Yields:
        Key and rows (M, 6) of each image.
    """
    windows, merger = iter(windows), WindowMerger(slicing or Slicing())
    while batch := list(itertools.islice(windows, batch_size)):
        keys, boxes, following, samples = zip(*batch)
        yield from merger.add(keys, boxes, following, run(list(samples)))


def slicing_of(arguments: argparse.Namespace) -> Slicing | None:
    """The Slicing that the options of `add_slice_arguments` ask for; None without --slice_infer.

    Raises:
        DeployError: a value is out of its range, or an option would have no effect.
    """
    smallest = min(arguments.slice_size or [SMALLEST_SIDE])
    if 0 < smallest < SMALLEST_SIDE:
        raise DeployError(f"--slice_size has {smallest}: windows of less than {SMALLEST_SIDE} pixels show no object")
    fields = OPTIONS.read(arguments)
    return None if fields is None else Slicing(**fields)


def _window_starts(length: int, side: int, step: int) -> np.ndarray:
    """First pixels of windows of `side` pixels along an image of `length` pixels."""
    last = max(length - side, 0)
    return np.minimum(np.arange(0, last + step, step), last)
