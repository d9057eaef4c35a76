"""Soft-NMS of one image, by hand; tests/modeling/test_soft_nms.py has the paper's pseudo-code."""

import math

import numpy as np
import pytest

from ppdet.utils.soft_suppression import Decay, suppress_softly

# Boxes 10 pixels high, of which the second shares 5 of 15 columns with the first, and the third none.
BOXES = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [40, 0, 50, 10]], np.float32)
DECAY = Decay("gaussian", 0.5, 0.3)


def taken(scores, labels=(0, 0, 0), boxes=BOXES, dtype=np.float32, least=0.0, most=9, **changed):
    decay = DECAY._replace(**changed)
    values, places = suppress_softly(boxes, np.array(labels), np.array(scores, dtype), decay, least, most)
    assert values.dtype == dtype and places.dtype == np.int64
    return dict(zip(places.tolist(), values.tolist()))


@pytest.mark.parametrize(
    ("changed", "second"),
    [
        ({}, 0.8 * math.exp(-(1 / 9) / 0.5)),
        ({"sigma": 0.25, "dtype": np.float64}, 0.8 * math.exp(-(1 / 9) / 0.25)),
        ({"method": "linear"}, 0.8 * (1 - 1 / 3)),
        ({"method": "linear", "threshold": 0.34}, 0.8),
        ({"labels": (0, 1, 0)}, 0.8),
    ],
)
def test_by_hand(changed, second):
    found = taken([0.9, 0.8, 0.7], **changed)
    assert found == pytest.approx({0: 0.9, 1: second, 2: 0.7})
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_limits():
    assert list(taken([0.9, 0.8, 0.7], most=2)) == [0, 2]
    assert list(taken([0.9, 0.8, 0.7], most=0)) == []
    assert list(taken([0.9, 0.8, 0.7], least=0.641)) == [0, 2]  # 0.8 becomes 0.6406
    assert list(taken([0.9, 0.8, 0.7], least=0.7, dtype=np.float64, labels=(0, 1, 2))) == [0, 1]  # above, not at it


def test_scores_that_are_no_numbers_and_no_boxes():
    assert taken([math.nan, 0.8, 0.7]) == pytest.approx({1: 0.8, 2: 0.7})
    assert taken([], labels=(), boxes=BOXES[:0]) == {}


def test_what_is_given_stays():
    scores = np.array([0.9, 0.8, 0.7])
    suppress_softly(BOXES, np.zeros(3), scores, DECAY, 0.0, 9)
    assert scores.tolist() == [0.9, 0.8, 0.7]
