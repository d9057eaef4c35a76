"""Images to label next are uncertain, different from one another and from labeled ones, and no near-duplicates."""

import numpy as np
import pytest

from ppdet.data.annotations.informative import choose, entropy, thumbnail_features, uncertainties


def rows(*found):
    return np.array([[label, score, 0, 0, 9, 9] for label, score in found], np.float64).reshape(-1, 6)


def test_the_entropy_is_that_of_a_yes_or_no():
    # Shannon's table: H(1/2) = 1, H(1/4) = H(3/4) = 2 - 3/4 log2 3.
    expected = [0, 1, 2 - 0.75 * np.log2(3), 2 - 0.75 * np.log2(3), 0]
    assert entropy(np.array([0, 0.5, 0.25, 0.75, 1])) == pytest.approx(expected, abs=1e-9)


def test_doubt_adds_up_and_rare_classes_count_more():
    # Expected objects: 1.5 + 0.5 of class 0, 0.5 of class 1, so that the weights are 4.5 / 4 and 4.5 / 2.5.
    found = [rows((0, 0.5), (0, 0.5), (0, 0.5)), rows((0, 0.5)), rows((1, 0.5)), rows((0, 0.04)), rows()]
    assert uncertainties(found, 2).tolist() == pytest.approx([3 * 1.125, 1.125, 1.8, 0, 0])


def test_the_choice_is_uncertain_first_and_then_far_away():
    features = np.array([[0.0], [0.1], [1.0], [1.125], [5.0]])
    alone = [[i] for i in range(5)]
    # The most uncertain; then the largest products: 0.9 * 1.0 of image 2 is more than 0.1 * 5 and 0.9 * 0.1.
    chosen, distances = choose(3, features, np.array([1.0, 0.9, 0.9, 0.1, 0.1]), alone)
    assert chosen == [0, 2, 4] and np.isnan(distances[0]) and distances[1:] == [1.0, 4.0]
    # What is labeled is not chosen, and what resembles it comes last.
    chosen, distances = choose(9, features, np.ones(5), alone, labeled=[4])
    assert chosen == [0, 3, 2, 1] and distances == pytest.approx([5, 1.125, 0.125, 0.1])


def test_of_near_duplicates_the_most_uncertain_is_chosen_and_none_of_a_labeled_one():
    features, values = np.arange(6.0)[:, None], np.array([1.0, 2.0, 3.0, 1.0, 5.0, 0.0])
    chosen, _ = choose(6, features, values, [[0, 1], [2, 4], [3], [5]], labeled=[2])
    assert chosen == [1, 3, 5]
    # An image in which nothing is seen is left to the end, however far it is.
    chosen, _ = choose(6, np.array([[0.0], [1.0], [99.0]]), np.array([1.0, 0.5, 0.0]), [[0], [1], [2]])
    assert chosen == [0, 1, 2]


def test_thumbnails_tell_colors_apart():
    red, blue = (np.full((40, 30, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))
    one, other, gray = (thumbnail_features(image) for image in (red, blue, np.full((9, 9, 3), 51, np.uint8)))
    assert one.shape == (192,) and np.linalg.norm(one - other) == pytest.approx((64 * 2) ** 0.5)
    assert gray == pytest.approx(np.full(192, 0.2))
