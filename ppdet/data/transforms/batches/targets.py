"""The training targets of FCOS: a class, four distances and a centerness for every location."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform
from ppdet.utils.locations import LEVEL_SETTINGS, Locations
from ppdet.utils.ranges import require_number


@register
@serializable
class Gt2FCOSTarget(Transform):
    """Adds the FCOS targets (arXiv:1904.01355, section 3; center sampling: arXiv:2006.09214) to every sample.

    It sets `target_labels` (R,) int32, 0 for background or 1..C; `target_distances` (R, 4) float32, left, top, right,
    bottom, 0 on background; `target_centerness` (R,) float32, 0 on background. R counts the locations of all levels of
    the padded image, finest level first, row by row.

    Of several boxes that match a location, the smallest one wins, on a tie the first one. All boxes of the sample are
    used; a sample only contains crowd boxes if its data set has `load_crowd: true`.

    Args:
        object_sizes_boundary: bounds between the levels in pixels. A location of level k matches boxes whose largest
            distance from it lies strictly between bounds k and k + 1 of (-1, *object_sizes_boundary, infinity). The
            global setting of this name replaces it where it is not set, and that of downsample_ratios likewise.
        center_sampling_radius: a location matches boxes whose center is nearer than this many strides in x and in y;
            with 0 or less, all boxes that it lies in.
        downsample_ratios: stride of each level in pixels, finest level first; FCOSHead.fpn_stride.
        num_shift, even_locations, last_pixel: the same as the parameter of FCOSHead with this name.
        multiply_strides_reg_targets, norm_reg_targets: distances are in strides of the level with norm_reg_targets and
            without multiply_strides_reg_targets, otherwise in pixels. FCOSHead needs the same values.
        inclusive_bounds: a largest distance equal to a bound also matches, so that a box can belong to two levels.
        min_box_area: boxes of a smaller area, in square pixels of the network's input, are ignored: a location in one
            of them matches another box or is background. They stay in `gt_bbox`.
    """

    # The implementation lists the pairs of a box and a cell that can match: some tens for each box with bounds and
    # center sampling, where comparing all locations with all boxes would be millions.

    takes_batch = moves_pixels = makes_targets = True
    __shared__ = ["object_sizes_boundary", "downsample_ratios"]

    def __init__(
        self,
        *,
        object_sizes_boundary: Sequence[int] = (64, 128, 256, 512),
        center_sampling_radius: float = 1.5,
        downsample_ratios: Sequence[int] = (8, 16, 32, 64, 128),
        num_shift: float = 0.5,
        multiply_strides_reg_targets: bool = False,
        norm_reg_targets: bool = True,
        inclusive_bounds: bool = False,
        min_box_area: float = 0.0,
        even_locations: bool = False,
        last_pixel: bool = False,
    ) -> None:
        if len(downsample_ratios) != len(object_sizes_boundary) + 1:
            raise ValueError(
                f"Gt2FCOSTarget.object_sizes_boundary is {list(object_sizes_boundary)} and downsample_ratios "
                f"{list(downsample_ratios)}, expected one bound less than strides: {LEVEL_SETTINGS}"
            )
        sizes = list(object_sizes_boundary)
        if sizes != sorted({abs(bound) for bound in sizes}):
            raise ValueError(f"Gt2FCOSTarget.object_sizes_boundary is {sizes}; bounds must be at least 0 and ascend")
        require_number("Gt2FCOSTarget.min_box_area", min_box_area, minimum=0)
        bounds = np.array([-1, *object_sizes_boundary, np.inf], dtype=np.float32)
        self.low, self.high = bounds[:-1], bounds[1:]
        self.locations = Locations(
            tuple(downsample_ratios), shift=num_shift, even=even_locations, last_pixel=last_pixel
        )
        self.distances_in_strides = norm_reg_targets and not multiply_strides_reg_targets
        self._stride = np.array(downsample_ratios, dtype=np.float32)
        self.radius = np.float32(center_sampling_radius)
        self.inclusive_bounds = inclusive_bounds
        self.min_box_area = min_box_area

    def __call__(self, samples: list[dict[str, Any]], rng: np.random.Generator | None = None) -> list[dict[str, Any]]:
        for sample in samples:
            height, width = sample["image"].shape[-2:]
            boxes = sample["gt_bbox"]
            if self.locations.last_pixel:
                y, x = sample["scale_factor"]
                boxes = boxes - np.array([0, 0, x, y], dtype=np.float32)
            labels, distances, centerness = self.assign(boxes, sample["gt_class"], height, width)
            sample["target_labels"] = labels
            sample["target_distances"] = distances
            sample["target_centerness"] = centerness
        return samples

    def assign(
        self, boxes: np.ndarray, classes: np.ndarray, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets (R,), (R, 4), (R,) for boxes (M, 4) x1, y1, x2, y2 of classes (M, 1) in a padded image."""
        grids = self.locations.levels(height, width)
        rows, columns = np.array([(grid.rows, grid.columns) for grid in grids]).T
        steps = np.array([(grid.step_x, grid.step_y) for grid in grids], dtype=np.float32).T  # (2, L)
        ends = np.cumsum(rows * columns)
        labels = np.zeros(ends[-1], dtype=np.int32)
        distances = np.zeros((ends[-1], 4), dtype=np.float32)
        centerness = np.zeros(ends[-1], dtype=np.float32)

        boxes = np.ascontiguousarray(np.asarray(boxes, dtype=np.float32).reshape(-1, 4).T)
        box, level = self._boxes_and_levels(boxes)
        if len(box):
            region = self._region(boxes, box, level)
            pair, row, column = self._cells(region, level, rows, columns, steps[:, level])
            good, sides = self._positive(boxes[:, box[pair]], region[:, pair], level[pair], row, column, steps)
            pair, row, column = pair[good], row[good], column[good]
            box, level = box[pair], level[pair]
            location = (ends - rows * columns)[level] + row * columns[level] + column
            won = _smallest_box_first(boxes, box, location)
            location, sides, box = location[won], sides[:, won], box[won]
            labels[location] = np.asarray(classes).reshape(-1)[box] + 1
            centerness[location] = _centerness(sides)
            distances[location] = (sides / self._stride[level[won]] if self.distances_in_strides else sides).T
        return labels, distances, centerness

    def _boxes_and_levels(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The P pairs (box, level) where some location inside the box can satisfy the level's bounds.

        The largest distance from a location inside is at least half of the longer side. It is at most the longer side;
        with center sampling, half of it plus the radius. Half a pixel of tolerance covers rounding.
        """
        longest = np.maximum(boxes[2] - boxes[0], boxes[3] - boxes[1])[:, None]
        most = longest
        if self.radius > 0:
            most = np.minimum(longest, longest / 2 + self.radius * self._stride)
        large = (_area(boxes) >= self.min_box_area)[:, None]
        box, level = np.nonzero((longest / 2 - 0.5 < self.high) & (most + 0.5 > self.low) & large)
        return box, level

    def _region(self, boxes: np.ndarray, box: np.ndarray, level: np.ndarray) -> np.ndarray:
        """The region (4, P) in which locations match each pair's box: the box, cut to its center ± radius strides."""
        whole = boxes[:, box]
        if self.radius <= 0:
            return whole
        center = (whole[:2] + whole[2:]) / 2
        reach = (self.radius * self._stride)[level]
        region = np.empty_like(whole)
        np.maximum(center - reach, whole[:2], out=region[:2])
        np.minimum(center + reach, whole[2:], out=region[2:])
        return region

    def _cells(
        self, region: np.ndarray, level: np.ndarray, rows: np.ndarray, columns: np.ndarray, steps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All cells in the regions (4, P) of the pairs, as (pair, row, column), (K,) each.

        The ranges are one cell wider than exact arithmetic needs; `_positive` decides.

        Args:
            rows, columns: (L,), size of each level.
            steps: (2, P), x and y, between the locations of each pair's level.
        """
        cells = region.astype(np.float64) / np.concatenate([steps, steps]) - self.locations.shift
        size = np.stack([columns[level], rows[level]])
        first = np.clip(np.floor(cells[:2]), 0, size).astype(np.int64)
        last = np.clip(np.ceil(cells[2:]) + 1, 0, size).astype(np.int64)
        wide, high = np.maximum(last - first, 0)
        count = wide * high
        pair = np.repeat(np.arange(len(level)), count)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
        row, column = np.divmod(within, wide[pair])
        return pair, row + first[1, pair], column + first[0, pair]

    def _positive(
        self,
        boxes: np.ndarray,
        region: np.ndarray,
        level: np.ndarray,
        row: np.ndarray,
        column: np.ndarray,
        steps: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the K' matching cells among K, and their distances (4, K').

        Ties are decided in float32, as in published models.

        Args:
            boxes, region: (4, K), of the pair that each cell belongs to.
            steps: (2, L), x and y, between the locations of each level.
        """
        location = ((np.stack([column, row]) + self.locations.shift) * steps[:, level]).astype(np.float32)
        sides = _sides(location, boxes)
        longest = sides.max(axis=0)
        above, below = (np.greater_equal, np.less_equal) if self.inclusive_bounds else (np.greater, np.less)
        good = (sides.min(axis=0) > 0) & above(longest, self.low[level]) & below(longest, self.high[level])
        if self.radius > 0:
            good &= _sides(location, region).min(axis=0) > 0
        return good, sides[:, good]


def _sides(location: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Distances (4, K), left, top, right, bottom, from locations (2, K) x, y to the sides of boxes (4, K)."""
    sides = np.empty_like(boxes)
    np.subtract(location, boxes[:2], out=sides[:2])
    np.subtract(boxes[2:], location, out=sides[2:])
    return sides


def _smallest_box_first(boxes: np.ndarray, box: np.ndarray, location: np.ndarray) -> np.ndarray:
    """Index of the winning pair (box, location) of each location: the smallest box, on a tie the first one."""
    count = boxes.shape[1]
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(_area(boxes), kind="stable")] = np.arange(count)
    order = np.argsort(location * count + rank[box])
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = np.diff(location[order]) > 0
    return order[is_first]


def _area(boxes: np.ndarray) -> np.ndarray:
    """Areas (M,) of boxes (4, M)."""
    return (boxes[2] - boxes[0]) * (boxes[3] - boxes[1])


def _centerness(sides: np.ndarray) -> np.ndarray:
    """Centerness (K,) in 0..1 from distances (4, K)."""
    left, top, right, bottom = sides
    horizontal = np.minimum(left, right) / np.maximum(left, right)
    vertical = np.minimum(top, bottom) / np.maximum(top, bottom)
    return np.sqrt(horizontal * vertical)
