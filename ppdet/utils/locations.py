"""The grid of locations: the pixels of the network's input at which an FCOS detector predicts boxes.

Every cell of every feature level has one location. The head decodes boxes at the locations, the training targets are
made for them, and the pictures of training batches show them. All of these read the one class below, with NumPy or with
Paddle tensors, so that they cannot disagree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppdet.utils.ranges import require_number

if TYPE_CHECKING:
    from paddle import Tensor

# The settings in YAML files that decide each field of `Locations`.
SETTINGS = {
    "strides": "fpn_stride (downsample_ratios)",
    "shift": "num_shift",
    "even": "even_locations",
    "last_pixel": "last_pixel",
}
# What every error about levels that do not fit together ends with.
LEVEL_SETTINGS = (
    "these settings have to agree: ResNet.return_idx and FPN.extra_stage give the levels, FCOSHead.fpn_stride and "
    "Gt2FCOSTarget.downsample_ratios list their strides, and Gt2FCOSTarget.object_sizes_boundary has one bound between "
    "two levels (docs/SMALL_DATA.md, section 3)"
)


class LevelGrid(NamedTuple):
    """The locations of one feature level for one size of the input.

    The location of the cell (row, column) is x = (column + shift) * step_x, y = (row + shift) * step_y, in pixels.

    Attributes:
        rows, columns: H and W of the level. They are ints, or int64 tensors while Paddle records a static graph.
        step_y, step_x: distance in pixels from one location to the next, down and to the right. They are ints, or int32
            tensors in a static graph in which the input's size decides them.
        shift: position of the location within its cell, in steps: 0.5 is the cell's center, 0 its top left corner.
    """

    rows: Any
    columns: Any
    step_y: Any
    step_x: Any
    shift: float

    def points(self) -> np.ndarray:
        """All locations as (rows * columns, 2) float32 of x, y in pixels, row by row."""
        row, column = np.indices((self.rows, self.columns)).reshape(2, -1)
        points = np.column_stack([(column + self.shift) * self.step_x, (row + self.shift) * self.step_y])
        return points.astype(np.float32)

    def axes(self) -> "tuple[Tensor, Tensor]":
        """The x of all columns (1, W) and the y of all rows (H, 1), float32 in pixels."""
        import paddle

        sides = zip((self.rows, self.columns), self._float_steps())
        y, x = ((paddle.arange(count, dtype="float32") + self.shift) * step for count, step in sides)
        return x.unsqueeze(0), y.unsqueeze(1)

    def at(self, index: "Tensor") -> "Tensor":
        """The locations (..., 2) of x, y in pixels of the cells `index` (...), counted row by row."""
        import paddle

        x, y = (cell.astype("float32") + self.shift for cell in (index % self.columns, index // self.columns))
        step_y, step_x = self._float_steps()
        return paddle.stack([x * step_x, y * step_y], axis=-1)

    def inside(self, im_shape: "Tensor") -> "Tensor":
        """The mask of locations that are not in the padding: (N, 1, H, W) float32, 1 inside of an image and 0 outside.

        A location is inside when x < the image's width and y < the image's height.

        Args:
            im_shape: (N, 2), whole numbers: heights and widths of the images without padding.
        """
        import paddle

        # The comparison is made in whole numbers, floor(x) < width, since an engine that computes in bfloat16 would
        # round a width of 427 to 428.
        limits = im_shape.astype("int32")
        sides = ((self.rows, self.step_y), (self.columns, self.step_x))
        y, x = (paddle.arange(count, dtype="int32") * step + self._first_pixel(step) for count, step in sides)
        in_rows = y.reshape([1, 1, -1, 1]) < limits[:, 0].reshape([-1, 1, 1, 1])
        in_columns = x.reshape([1, 1, 1, -1]) < limits[:, 1].reshape([-1, 1, 1, 1])
        return in_rows.astype("float32") * in_columns.astype("float32")

    def _float_steps(self) -> tuple[Any, Any]:
        """step_y and step_x as factors of float32 tensors: a static graph does not mix types."""
        step_y, step_x = (s if isinstance(s, int) else s.astype("float32") for s in (self.step_y, self.step_x))
        return step_y, step_x

    def _first_pixel(self, step: Any) -> Any:
        """The pixel in which the first location of a row or column lies."""
        if isinstance(step, int):
            return math.floor(step * self.shift)
        return (step.astype("float32") * self.shift).floor().astype("int32")


@dataclass(frozen=True)
class Locations:
    """Where the locations of all feature levels lie.

    Two equal objects mean that a head and the targets fit together.

    Args:
        strides: stride of each level in pixels, finest level first, for example (8, 16, 32, 64, 128).
        shift: position of a location within its cell, in steps: 0.5 is the cell's center, 0 its top left corner.
        even: false: locations are one stride apart. true: they are `size // cells` pixels apart, as in torchvision. An
            input 800 pixels wide has 13 cells of stride 64; their locations are then 800 // 13 = 61 pixels apart. There
            is no difference where the size is a multiple of the stride.
        last_pixel: distances to the right and to the bottom end at the last pixel inside a box, as in
            maskrcnn-benchmark: one pixel of the original image before the box's right and bottom side.
    """

    strides: Sequence[int]
    shift: float = field(default=0.5, kw_only=True)
    even: bool = field(default=False, kw_only=True)
    last_pixel: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Raise ValueError for a shift that is not within the cell, or strides that do not ascend."""
        object.__setattr__(self, "strides", tuple(self.strides))  # a list would differ from an equal tuple
        require_number(SETTINGS["shift"], self.shift, minimum=0, maximum=1)
        if list(self.strides) != sorted(set(self.strides)) or min(self.strides, default=1) < 1:
            raise ValueError(f"{SETTINGS['strides']} is {list(self.strides)}; strides must be at least 1 and ascend")

    def levels(self, height: int, width: int) -> list[LevelGrid]:
        """The grid of each level, in ints, for an input of height x width pixels, padding included."""
        cells = [(-(-height // stride), -(-width // stride)) for stride in self.strides]
        steps = self._steps(cells, (height, width))
        return [LevelGrid(*cell, *step, self.shift) for cell, step in zip(cells, steps)]

    def levels_of(self, maps: "Sequence[Tensor]") -> list[LevelGrid]:
        """The grid of each level of maps (N, C, H, W). The input's size follows from the finest level."""
        import paddle

        dynamic = paddle.in_dynamic_mode()
        shapes = [level.shape if dynamic else paddle.shape(level).astype("int64") for level in maps]
        cells = [(shape[2], shape[3]) for shape in shapes]
        steps = self._steps(cells)
        if self.even and not dynamic:
            steps = [(step_y.astype("int32"), step_x.astype("int32")) for step_y, step_x in steps]
        return [LevelGrid(*cell, *step, self.shift) for cell, step in zip(cells, steps)]

    def _steps(self, cells: Sequence[tuple[Any, Any]], size: tuple[int, int] | None = None) -> list[tuple[Any, Any]]:
        """Steps in y and x of each level.

        Args:
            cells: rows and columns of each level.
            size: height and width of the input; None if it follows from the finest level.
        """
        if not self.even:
            return [(stride, stride) for stride in self.strides]
        height, width = size or (cells[0][0] * self.strides[0], cells[0][1] * self.strides[0])
        return [(height // rows, width // columns) for rows, columns in cells]

    def difference(self, other: "Locations") -> tuple[str, Any, Any] | None:
        """The setting in which two grids differ, its value here and its value there; None if they are equal."""
        for one in fields(self):
            ours, theirs = getattr(self, one.name), getattr(other, one.name)
            if ours != theirs:
                return SETTINGS[one.name], ours, theirs
        return None
