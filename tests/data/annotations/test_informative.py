"""Images to label next are uncertain, different from one another and from labeled ones, and no near-duplicates."""

import numpy as np
import pytest

from ppdet.data.annotations.informative import choose, entropy, thumbnail_features, uncertain_objects


def rows(*found):
    return np.array([[label, score, 0, 0, 9, 9] for label, score in found], np.float64).reshape(-1, 6)


def test_the_entropy_is_that_of_a_yes_or_no():
    # Shannon's table: H(1/2) = 1, H(1/4) = H(3/4) = 2 - 3/4 log2 3.
    expected = [0, 1, 2 - 0.75 * np.log2(3), 2 - 0.75 * np.log2(3), 0]
    assert entropy(np.array([0, 0.5, 0.25, 0.75, 1])) == pytest.approx(expected, abs=1e-9)


def test_doubtful_detections_add_up_by_class():
    # A score of 1/2 is half an object, with an entropy of 1; below 0.05 it is noise.
    found = [rows((0, 0.5), (0, 0.5), (1, 0.25)), rows((1, 1.0), (0, 0.04)), rows()]
    quarter = 0.25 * (2 - 0.75 * np.log2(3))
    assert uncertain_objects(found, 2) == pytest.approx(np.array([[1, quarter], [0, 0], [0, 0]]), abs=1e-9)


def test_the_choice_is_worth_most_first_and_then_far_away():
    features = np.array([[0.0], [0.1], [1.0], [1.125], [5.0]])
    alone, objects = [[i] for i in range(5)], np.array([3.0, 2.9, 2.9, 0.1, 0.1])[:, None]
    # The most objects; then log(1 + 2.9 / 4) * 1 of image 2 is more than log(1 + 0.1 / 4) * 5 ** 0.5 of image 4 and
    # log(1 + 2.9 / 4) * 0.1 ** 0.5 of image 1, to which image 2 is nearer than to image 4.
    chosen, distances = choose(3, features, objects, alone)
    assert chosen == [0, 2, 1] and np.isnan(distances[0]) and distances[1:] == pytest.approx([1.0, 0.1])
    # What is labeled is not chosen, and without objects the farthest image comes first.
    chosen, distances = choose(9, features, np.ones((5, 1)), alone, labeled=[4])
    assert chosen == [0, 3, 2, 1] and distances == pytest.approx([5, 1.125, 0.125, 0.1])


def test_labels_of_a_class_bring_less_the_more_there_are():
    features, objects = np.arange(3.0)[:, None] * 0, np.array([[4.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    alone = [[0], [1], [2]]
    # log(1 + 4) and log(1 + 1); then log(1 + 3 / 5) < log(1 + 1).
    assert choose(3, features, objects, alone)[0] == [0, 2, 1]
    # With 9 labels of class 0, log(1 + 4 / 10) < log(1 + 1).
    assert choose(3, features, objects, alone, counts=np.array([9, 0]))[0] == [2, 0, 1]


def test_of_near_duplicates_the_one_worth_most_is_chosen_and_none_of_a_labeled_one():
    features, objects = np.arange(6.0)[:, None], np.array([1.0, 2.0, 3.0, 1.0, 5.0, 0.0])[:, None]
    chosen, _ = choose(6, features, objects, [[0, 1], [2, 4], [3], [5]], labeled=[2])
    assert chosen == [1, 3, 5]
    # An image in which nothing is seen is left to the end, however far it is.
    chosen, _ = choose(6, np.array([[0.0], [1.0], [99.0]]), np.array([[1.0], [0.5], [0.0]]), [[0], [1], [2]])
    assert chosen == [0, 1, 2]


def test_thumbnails_tell_colors_apart():
    red, blue = (np.full((40, 30, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))
    one, other, gray = (thumbnail_features(image) for image in (red, blue, np.full((9, 9, 3), 51, np.uint8)))
    assert one.shape == (192,) and np.linalg.norm(one - other) == pytest.approx((64 * 2) ** 0.5)
    assert gray == pytest.approx(np.full(192, 0.2))
