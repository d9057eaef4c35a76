"""Where the locations of a level lie in the network's input."""

import math

import paddle
from paddle import Tensor

# Of rows and of columns: whole numbers, or int tensors in a static graph, where the size of the input decides.
Pair = tuple[int | Tensor, int | Tensor]


def size_of(level_map: Tensor) -> Pair:
    """H and W of a map (N, C, H, W): numbers, or int64 tensors in a static graph, which takes any size."""
    shape = level_map.shape if paddle.in_dynamic_mode() else paddle.shape(level_map).astype("int64")
    return shape[2], shape[3]


def coordinates(size: Pair, step: Pair, num_shift: float) -> tuple[Tensor, Tensor]:
    """x (1, W) and y (H, 1) in pixels; see `inside` for the arguments."""
    y, x = ((paddle.arange(count, dtype="float32") + num_shift) * pixels for count, pixels in zip(size, in_float(step)))
    return x.unsqueeze(0), y.unsqueeze(1)


def in_float(step: Pair) -> Pair:
    """To multiply float32 tensors with: Paddle's static graph does not mix types."""
    return tuple(side if isinstance(side, int) else side.astype("float32") for side in step)


def inside(size: Pair, step: Pair, num_shift: float, im_shape: Tensor) -> Tensor:
    """(N, 1, H, W) float32: 1 at a level's locations inside of the images, 0 in their padding.

    A location is in the padding when its x is not below the image's width, or its y not below its height.

    Args:
        size: H and W. step: pixels from one location to the next, down and to the right. num_shift: where the first
            location lies, in steps. im_shape: (N, 2), whole numbers, heights and widths without padding.
    """
    # In whole numbers: an engine that computes in bfloat16 would round 427 to 428. x < width where floor(x) < width.
    limits = im_shape.astype("int32")
    rows, columns = (
        paddle.arange(count, dtype="int32") * pixels + first_pixel(pixels, num_shift)
        for count, pixels in zip(size, step)
    )
    in_rows = rows.reshape([1, 1, -1, 1]) < limits[:, 0].reshape([-1, 1, 1, 1])
    in_columns = columns.reshape([1, 1, 1, -1]) < limits[:, 1].reshape([-1, 1, 1, 1])
    return in_rows.astype("float32") * in_columns.astype("float32")


def first_pixel(step: int | Tensor, num_shift: float) -> int | Tensor:
    """The pixel in which the first location lies."""
    if isinstance(step, int):
        return math.floor(step * num_shift)
    return (step.astype("float32") * num_shift).floor().astype("int32")
