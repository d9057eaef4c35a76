"""The best of a run's evaluations."""

import math

import pytest

from ppdet.engine.runs.best_evaluation import best_evaluation


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([], None),
        ([0.2, 0.4, 0.4], 1),  # the first of equal ones
        ([0.0, 0.0, 0.0], 2),  # nothing is found yet: the one that was trained longest
        ([0.0, 0.0, 0.1, 0.0, 0.0], 2),
        ([-1.0, -1.0], 0),  # there are no boxes to evaluate, and nothing follows
        ([-0.2, -0.1, -0.1], 1),  # a number of one's own
        ([math.nan, 0.1], 1),
        ([0.1, math.nan], 0),
        ([math.nan, math.nan], 0),
    ],
)
def test_the_best_of_the_values(values, best):
    assert best_evaluation(values) == best
