"""The F1 of each threshold, and the threshold with the highest one, computed by hand."""

import numpy as np
import pytest

from ppdet.metrics.score_curves import best_threshold, f1_curve


def test_the_best_threshold_lies_between_two_scores():
    scores, hits = np.array([0.9, 0.3, 0.3, 0.6, 0.6]), np.array([True, True, False, True, False])
    best = best_threshold(scores, hits, 3)
    # Of equal scores, all are kept or none: 0.3 gives 3 of 5, 0.6 gives 2 of 3, 0.9 gives 1 of 1.
    assert best == (pytest.approx(0.15), pytest.approx(6 / 8), pytest.approx(3 / 5), pytest.approx(1))
    curve = f1_curve(scores, hits, 3)
    assert curve[[0, 30, 31, 60, 61, 90, 91]] == pytest.approx([6 / 8, 6 / 8, 4 / 6, 4 / 6, 2 / 4, 2 / 4, 0])
    assert best_threshold(scores, np.zeros(5, bool), 3) is None and best_threshold(scores, hits, 0) is None
    assert np.isnan(f1_curve(scores, hits, 0)).all()
