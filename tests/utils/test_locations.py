"""The grid of locations against torchvision's, written out, and its two readings against each other."""

import numpy as np
import paddle
import pytest

from ppdet.utils.locations import Locations

LOCATIONS = {
    "centers": Locations((8, 16, 32)),
    "corners": Locations((8, 16, 32), shift=0.0),
    "even": Locations((8, 16, 32), shift=0.5, even=True),
}


@pytest.mark.parametrize("name", LOCATIONS)
@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 32)])
def test_numpy_and_tensors_agree(name, size):
    height, width = size
    grids = LOCATIONS[name].levels(height, width)
    maps = [paddle.zeros([1, 2, grid.rows, grid.columns]) for grid in grids]
    assert LOCATIONS[name].levels_of(maps) == grids
    for grid, stride in zip(grids, (8, 16, 32)):
        assert (grid.rows, grid.columns) == (height // stride, width // stride)
        x, y = grid.axes()
        points = np.stack(np.broadcast_arrays(x.numpy(), y.numpy()), axis=-1).reshape(-1, 2)
        assert np.array_equal(grid.points(), points)
        index = paddle.arange(len(points))
        assert np.array_equal(grid.at(index).numpy(), points)


def test_spacing_of_even_locations():
    """torchvision's anchor generator: 800 // 13 = 61 pixels apart where 13 cells of stride 64 cover 800 pixels."""
    (grid,) = Locations((64,), shift=0.0, even=True).levels(800, 832)
    assert (grid.rows, grid.columns, grid.step_y, grid.step_x) == (13, 13, 61, 64)
    assert grid.points()[:2].tolist() == [[0, 0], [64, 0]] and grid.points()[13].tolist() == [0, 61]


def test_difference():
    one = Locations((8, 16))
    assert one.difference(Locations((8, 16))) is None
    assert one.difference(Locations((8, 32))) == ("fpn_stride (downsample_ratios)", (8, 16), (8, 32))
    assert one.difference(Locations((8, 16), shift=0.0)) == ("num_shift", 0.5, 0.0)
    assert one.difference(Locations((8, 16), last_pixel=True)) == ("last_pixel", False, True)


def test_strides_as_a_list_are_the_same_grid():
    assert Locations([8, 16]).difference(Locations((8, 16))) is None
