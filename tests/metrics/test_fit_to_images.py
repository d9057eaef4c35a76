"""Annotated boxes beyond the images that were read are clipped to them before they are compared with detections."""

import numpy as np
import pytest

from ppdet.metrics.coco_truth import TRUTH, fit_to_images


def truth_of(*rows):
    """(image, x, y, width, height, area) each."""
    truth = np.zeros(len(rows), TRUTH)
    for entry, (image, *box, area) in zip(truth, rows):
        entry["image_id"], entry["bbox"], entry["area"] = image, box, area
    return truth


ROWS = [
    (1, 10, 10, 20, 20, 400),  # inside
    (1, 90, 40, 30, 30, 900),  # beyond both sides of 100 x 60
    (1, -5, -8, 15, 18, 100),  # before both, and the area of a mask
    (1, 100, 10, 5, 5, 25),  # outside
    (1, 95, 50, 0, 30, 0),  # without area: stays, and counts as missed
    (2, 90, 40, 30, 30, 900),  # inside: 200 x 100
    (3, 90, 40, 900, 900, 810000),  # an image that was not read
]
SIZES = {1: (60, 100), 2: (100, 200)}  # height, width


@pytest.mark.parametrize("count", range(1, len(ROWS) + 1))
def test_boxes_are_clipped_to_their_image(count):
    """Any number of boxes, so that height and width of one image are never another's."""
    expected = [
        (1, 10, 10, 20, 20, 400),
        (1, 90, 40, 10, 20, 200),
        (1, 0, 0, 10, 10, 100),
        None,
        *ROWS[4:],
    ]
    fitted = fit_to_images(truth_of(*ROWS[:count]), SIZES)
    kept = [row for row in expected[:count] if row is not None]
    assert fitted.truth["image_id"].tolist() == [row[0] for row in kept]
    np.testing.assert_allclose(fitted.truth["bbox"], [row[1:5] for row in kept])
    np.testing.assert_allclose(fitted.truth["area"], [row[5] for row in kept])
    assert (fitted.beyond, fitted.outside) == (sum(i in (1, 2, 3) for i in range(count)), int(count > 3))


def test_nothing_is_known_or_there():
    truth = truth_of(*ROWS)
    assert fit_to_images(truth, {}).truth.tobytes() == truth.tobytes() and fit_to_images(truth, {})[1:] == (0, 0)
    assert len(fit_to_images(truth[:0], SIZES).truth) == 0


def test_a_rounding_beyond_the_image_leaves_a_box_as_it_is():
    for far, expected in ((0.009, 0), (0.011, 1)):
        fitted = fit_to_images(truth_of((1, 50, 10, 50 + far, 20, 1)), SIZES)
        assert fitted.beyond == expected
        assert fitted.truth["bbox"][0, 2] == pytest.approx(50 if expected else 50 + far, abs=1e-6)
