"""Moving an image and its boxes by a matrix."""

import cv2
import numpy as np
import pytest

from ppdet.data.transforms.box_fields import drop_lost_boxes
from ppdet.data.transforms.geometry.affine import affine_matrix, translation, warp_boxes, warp_image, warp_sample

GRAY = (114, 114, 114)


def moved(matrix, x, y):
    point = matrix @ [x, y, 1]
    return pytest.approx(tuple(point[:2] / point[2]), abs=1e-9)


def test_a_matrix_rotates_counterclockwise_as_opencv_does():
    matrix = affine_matrix(degrees=30, scale=1.5, center=(20, 10))
    np.testing.assert_allclose(matrix[:2], cv2.getRotationMatrix2D((20, 10), 30, 1.5), atol=1e-12)


def test_each_part_of_a_matrix_moves_points_as_documented():
    assert moved(affine_matrix(translate=(3, -2)), 5, 5) == (8, 3)
    assert moved(affine_matrix(scale=2, center=(10, 10)), 12, 9) == (14, 8)
    # tan(45 degrees) is 1.
    assert moved(affine_matrix(shear=(45, 0)), 5, 7) == (12, 7)
    assert moved(affine_matrix(shear=(0, 45)), 5, 7) == (5, 12)
    assert moved(affine_matrix(degrees=90), 1, 0) == (0, -1)
    # Everything moves around the center, and `translate` comes last.
    assert moved(affine_matrix(degrees=33, scale=3, shear=(5, 6), center=(4, 9), translate=(1, 2)), 4, 9) == (5, 11)


def test_an_image_is_moved_by_whole_pixels_without_a_change():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    result = warp_image(image, translation(4, 3), (20, 30), GRAY)
    np.testing.assert_array_equal(result[3:, 4:], image[:-3, :-4])
    assert (result[:3] == 114).all() and (result[:, :4] == 114).all()
    assert result.dtype == np.uint8


def test_scaling_up_keeps_the_edges_of_pixels():
    """The pixel in column 3 fills columns 6 and 7 of a result of twice the size, and not 5.5 to 7.5."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[2, 3] = 255
    result = warp_image(image, affine_matrix(scale=2), (16, 16), GRAY, cv2.INTER_NEAREST)
    expected = np.zeros((16, 16), dtype=bool)
    expected[4:6, 6:8] = True
    np.testing.assert_array_equal(result[..., 0] == 255, expected)


def test_perspective_moves_the_image_and_the_boxes_alike():
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[30:50, 40:70] = 255
    matrix = np.array([[1.0, 0.1, 2.0], [0.05, 1.1, -3.0], [0.002, 0.001, 1.0]])
    result = warp_image(image, matrix, (100, 100), GRAY)
    boxes, share = warp_boxes(np.array([[40, 30, 70, 50]], dtype=np.float32), matrix, (100, 100))
    ys, xs = np.nonzero((result == 255).all(axis=-1))
    x1, y1, x2, y2 = boxes[0]
    np.testing.assert_allclose([xs.min() - x1, ys.min() - y1, x2 - xs.max() - 1, y2 - ys.max() - 1], 0, atol=2)
    assert share.tolist() == [1]


def test_the_box_of_a_rotated_box_is_around_its_four_corners():
    boxes, share = warp_boxes(np.array([[-1.0, -1, 1, 1]]), affine_matrix(degrees=45, translate=(10, 10)), (20, 20))
    root = np.sqrt(2)
    np.testing.assert_allclose(boxes, [[10 - root, 10 - root, 10 + root, 10 + root]])
    np.testing.assert_allclose(share, [1])


def test_boxes_are_clipped_and_the_share_that_is_left_is_told():
    boxes, share = warp_boxes(
        np.array([[0, 0, 10, 10], [0, 0, 4, 4], [30, 0, 40, 10], [5, 5, 5, 9]], dtype=np.float32),
        translation(-5, 0),
        (20, 20),
    )
    np.testing.assert_array_equal(boxes[:1], [[0, 0, 5, 10]])
    np.testing.assert_allclose(share, [0.5, 0, 0, 0])
    assert boxes.dtype == np.float32
    boxes, share = warp_boxes(np.zeros((0, 4), dtype=np.float32), translation(1, 1), (5, 5))
    assert boxes.shape == (0, 4) and share.shape == (0,)


def labeled(boxes, crowd):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return {
        "image": np.zeros((50, 60, 3), dtype=np.uint8),
        "gt_bbox": boxes,
        "gt_class": np.arange(len(boxes), dtype=np.int32)[:, None],
        "is_crowd": np.array(crowd, dtype=np.int32).reshape(-1, 1),
    }


def test_boxes_that_are_lost_are_dropped_by_share_side_and_aspect_and_crowds_only_without_area():
    boxes = [[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 1, 9], [0, 0, 50, 2], [0, 0, 1, 50], [3, 3, 3, 9]]
    sample = labeled(boxes, [0, 0, 0, 0, 1, 1])
    share = np.array([0.2, 0.09, 1, 1, 0.01, 1])
    result = drop_lost_boxes(sample, share, min_share=0.1, min_side=2, max_aspect=20)
    assert result["gt_class"][:, 0].tolist() == [0, 4]
    assert result["is_crowd"][:, 0].tolist() == [0, 1]
    assert len(result["gt_bbox"]) == 2


def test_a_sample_moves_as_a_whole_and_a_sample_without_boxes_too():
    sample, share = warp_sample(labeled([[10, 10, 20, 20]], [0]), affine_matrix(scale=0.5), (30, 40), fill=GRAY)
    assert sample["image"].shape == (30, 40, 3)
    assert sample["im_shape"].tolist() == [30, 40] and sample["im_shape"].dtype == np.float32
    assert sample["gt_bbox"].tolist() == [[5, 5, 10, 10]] and share.tolist() == [1]
    sample, share = warp_sample(labeled([], []), affine_matrix(degrees=5), (30, 40), fill=GRAY)
    assert drop_lost_boxes(sample, share, min_share=0.1)["gt_bbox"].shape == (0, 4)
    assert "gt_bbox" not in warp_sample({"image": sample["image"]}, np.eye(3), (5, 5), fill=GRAY)[0]
