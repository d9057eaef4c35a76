"""Overlaps of boxes and the two ways to write them, against numbers worked out by hand."""

import numpy as np

from ppdet.utils.boxes import pairwise_overlap, to_corners, to_sizes

BOXES = np.array([[0, 0, 10, 10], [5, 5, 5, 5.0]])


def test_overlaps():
    others = np.array([[5, 0, 15, 10], [0, 0, 5, 5], [20, 20, 30, 30], [5, 5, 5, 5.0]])
    assert np.allclose(pairwise_overlap(BOXES, others), [[50 / 150, 25 / 100, 0, 0], [0, 0, 0, 0]])
    assert np.allclose(pairwise_overlap(BOXES, others, of_smaller=True), [[0.5, 1, 0, 0], [0, 0, 0, 0]])
    assert pairwise_overlap(BOXES[:0], others).shape == (0, 4)


def test_corners_and_sizes():
    sizes = np.array([[1, 2, 30, 40.0]])
    assert to_corners(sizes).tolist() == [[1, 2, 31, 42]]
    assert to_sizes(to_corners(sizes)).tolist() == sizes.tolist()
