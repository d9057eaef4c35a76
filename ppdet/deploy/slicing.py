"""Sliced inference: detect in windows of a large image, and merge what they found. NumPy alone, for every engine."""

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ppdet.utils.errors import DeployError

COMBINE_METHODS = ("nms", "nmm", "concat")
MATCH_METRICS = ("iou", "ios")
# Options of the command line, and what they set.
LEAST_SIDE = 32  # of a window that a command cuts: smaller ones would be hundreds of thousands
OPTIONS = {
    "slice_size": "size",
    "overlap_ratio": "overlap",
    "combine_method": "combine",
    "match_threshold": "match_threshold",
    "match_metric": "match_metric",
}


@dataclass(frozen=True)
class Slicing:
    """How images are cut into windows, and how the windows' detections become those of the image.

    Args:
        size: height and width of a window in pixels.
        overlap: share of a window's height and width that it has in common with the next one, 0 to below 1.
        combine: nms keeps the best of the boxes that match; nmm keeps the best, grown around those that match it;
            concat keeps all. Boxes of different classes never match.
        match_threshold: two boxes match from this overlap on, above 0 to 1.
        match_metric: the overlap: iou, intersection over union; ios, intersection over the smaller of the two boxes,
            which finds the part of an object that the edge of a window has cut off.

    Raises:
        DeployError: a value that cannot be.
    """

    size: tuple[int, int] = (640, 640)
    overlap: tuple[float, float] = (0.25, 0.25)
    combine: str = "nms"
    match_threshold: float = 0.6
    match_metric: str = "ios"

    def __post_init__(self) -> None:
        for name in ("size", "overlap"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(map(_is_number, value)):
                _refuse(name, value, "two numbers, of height and width")
            object.__setattr__(self, name, tuple(value))  # frozen
        if not all(isinstance(side, Integral) and side >= 1 for side in self.size):
            _refuse("size", self.size, "two whole numbers of at least 1")
        if not all(0 <= share < 1 for share in self.overlap):
            _refuse("overlap", self.overlap, "two numbers from 0 to below 1")
        if self.combine not in COMBINE_METHODS:
            _refuse("combine", self.combine, f"one of {', '.join(COMBINE_METHODS)}")
        if not _is_number(self.match_threshold) or not 0 < self.match_threshold <= 1:
            _refuse("match_threshold", self.match_threshold, "a number above 0, and 1 at most")
        if self.match_metric not in MATCH_METRICS:
            _refuse("match_metric", self.match_metric, f"one of {', '.join(MATCH_METRICS)}")

    def __str__(self) -> str:
        merged = f", {self.match_metric} {self.match_threshold:g}" if self.combine != "concat" else ""
        height, width = self.size
        return f"windows of {height}x{width}, overlap {self.overlap[0]:g} {self.overlap[1]:g}, {self.combine}{merged}"

    def windows(self, height: int, width: int) -> np.ndarray:
        """(K, 4) int64 x1, y1, x2, y2 of windows that cover an image, row by row.

        They are those of SAHI's get_slice_bboxes: the last of a row or column is moved inwards, so that all have full
        size; a side of the image shorter than the window's is taken whole.
        """
        y1, x1 = (
            _starts(length, side, side - int(share * side))
            for length, side, share in zip((height, width), self.size, self.overlap)
        )
        y2, x2 = np.minimum(y1 + self.size[0], height), np.minimum(x1 + self.size[1], width)
        corners = np.meshgrid(y1, x1, indexing="ij") + np.meshgrid(y2, x2, indexing="ij")
        top, left, bottom, right = (corner.ravel() for corner in corners)
        return np.stack([left, top, right, bottom], axis=1)

    def merge(self, rows: np.ndarray) -> np.ndarray:
        """Combine detections of several windows of an image.

        Args:
            rows: (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the image, in any order.

        Returns:
            (K, 6), class by class, in each the best score first, of the same type.
        """
        # By class and score; equal scores by place, so that the order of windows does not matter.
        rows = rows[np.lexsort((*rows.T[:1:-1], -rows[:, 1], rows[:, 0]))]
        if self.combine == "concat" or not len(rows):
            return rows
        parts = np.split(rows, np.flatnonzero(np.diff(rows[:, 0])) + 1)
        with np.errstate(invalid="ignore"):  # what is not a number matches nothing
            return np.concatenate([self._merge_class(part) for part in parts])

    def _merge_class(self, rows: np.ndarray) -> np.ndarray:
        """`merge` for rows (M, 6) of one class, the best first."""
        boxes = np.array(rows[:, 2:], np.float64, order="F")  # each coordinate in one piece: read for every kept box
        waiting, kept = np.ones(len(rows), bool), []
        for best in range(len(rows)):
            if not waiting[best]:
                continue
            kept.append(best)
            later = slice(best + 1, None)
            matching = overlaps(boxes[best], boxes[later], self.match_metric) >= self.match_threshold
            if self.combine == "nmm":
                boxes[best] = self._grow(boxes[best], boxes[later][matching & waiting[later]])
            waiting[later] &= ~matching
        merged = rows[kept]
        if self.combine == "nmm":
            merged[:, 2:] = boxes[kept]
        return merged

    def _grow(self, box: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The box (4,) around itself and those of others (M, 4), the best first, that match it as it grows."""
        for other in others:
            if overlaps(box, other[None], self.match_metric)[0] >= self.match_threshold:
                box = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
        return box


def overlaps(box: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    """(M,) overlap, 0 to 1, of a box (4,) with others (M, 4), x1, y1, x2, y2; 0 where a box has no area."""
    x1, y1, x2, y2 = others.T
    width = np.minimum(box[2], x2) - np.maximum(box[0], x1)
    height = np.minimum(box[3], y2) - np.maximum(box[1], y1)
    common = np.maximum(width, 0) * np.maximum(height, 0)
    area, areas = (box[2] - box[0]) * (box[3] - box[1]), (x2 - x1) * (y2 - y1)
    whole = np.minimum(area, areas) if metric == "ios" else area + areas - common
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


class WindowMerger:
    """Collects the detections of windows, which come image by image, and gives out those of whole images."""

    def __init__(self, slicing: Slicing | None) -> None:
        self.slicing = slicing  # None: every image is one window
        self._parts: list[np.ndarray] = []  # of the image whose windows are coming

    def add(
        self, keys: Sequence[Any], windows: Sequence[np.ndarray], left: Sequence[int], found: Sequence[np.ndarray]
    ) -> list[tuple[Any, np.ndarray]]:
        """Take N windows; return the key and rows (M, 6), in its pixels, of every image that is complete with them.

        The only window of an image keeps its detections as they are. No number of detections is cut off.

        Args:
            keys: of the windows' images. windows: (N, 4) x1, y1, x2, y2 in pixels of the image.
            left: (N,) windows of the same image that are still to come.
            found: N arrays (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the window.
        """
        images = []
        for key, window, more, rows in zip(keys, windows, left, found):
            rows = rows.copy()
            rows[:, 2:] += np.tile(window[:2], 2).astype(rows.dtype)
            self._parts.append(rows)
            if not more:
                parts, self._parts = self._parts, []
                images.append((key, self.slicing.merge(np.concatenate(parts)) if len(parts) > 1 else rows))
        return images


def detect_windows(
    run: Callable[[list], Sequence[np.ndarray]],
    samples: Iterable[tuple[Any, np.ndarray, int, Any]],
    batch_size: int,
    slicing: Slicing | None,
) -> Iterator[tuple[Any, np.ndarray]]:
    """Detect in windows, in batches that images may share; yield the key and rows (M, 6) of every image.

    Args:
        run: detects on a list of samples; returns rows (M, 6) of each.
        samples: key of the image, window (4,), windows of the image still to come, and what `run` takes.
    """
    samples, merger = iter(samples), WindowMerger(slicing)
    while batch := list(itertools.islice(samples, batch_size)):
        *where, inputs = zip(*batch)
        yield from merger.add(*where, run(list(inputs)))


def slicing_of(arguments: argparse.Namespace) -> Slicing | None:
    """What the options of `ppdet.cli.arguments.add_slice_arguments` ask for; None without --slice_infer.

    Raises:
        DeployError: a value that cannot be, or options that would have no effect.
    """
    given = {option: getattr(arguments, option) for option in OPTIONS if getattr(arguments, option) is not None}
    smallest = min(arguments.slice_size or [LEAST_SIDE])
    if 0 < smallest < LEAST_SIDE:
        raise DeployError(f"--slice_size has {smallest}: windows of less than {LEAST_SIDE} pixels show no object")
    if arguments.slice_infer:
        return Slicing(**{OPTIONS[option]: value for option, value in given.items()})
    if given:
        raise DeployError(f"--{next(iter(given))} has no effect without --slice_infer: add that, or leave it out")
    return None


def _starts(length: int, side: int, step: int) -> np.ndarray:
    """First pixels of windows of this side along an image of this length."""
    last = max(length - side, 0)
    return np.minimum(np.arange(0, last + step, step), last)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _refuse(name: str, value: object, expected: str) -> None:
    option = next(option for option, field in OPTIONS.items() if field == name)
    raise DeployError(f"--{option} (Slicing.{name}) is {value!r}, expected {expected}")
