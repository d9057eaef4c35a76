"""Positions of ids in lists, compared with a dictionary."""

import numpy as np
import pytest

from ppdet.utils.positions import positions

END = 2**63 - 1


@pytest.mark.parametrize(
    ("ids", "values"),
    [
        ([3, 1, 2], [1, 2, 3, 0, 4, -5, END, -END - 1]),  # close together
        ([7, -7], [7, -7, 0, 8, -8]),
        ([END, END - 1], [END, END - 1, 0, -END - 1]),
        ([-END - 1, 5 - END], [-END - 1, 5 - END, END]),
        ([0, 10**12, -(10**15)], [10**12, 0, -(10**15), 5]),  # far apart
        ([5], []),
        ([], [1, 2]),
    ],
)
def test_they_are_those_of_a_dictionary(ids, values):
    expected = [{value: place for place, value in enumerate(ids)}.get(value, -1) for value in values]
    assert positions(np.array(values, np.int64), ids).tolist() == expected


def test_random_ids_close_together_and_far_apart():
    rng = np.random.default_rng(0)
    for spread in (50, 10**9):
        ids = np.unique(rng.integers(-spread, spread, 40)).tolist()
        rng.shuffle(ids)
        values = np.concatenate([rng.choice(ids, 100), rng.integers(-2 * spread, 2 * spread, 100)])
        expected = [ids.index(value) if value in ids else -1 for value in values.tolist()]
        assert positions(values, ids).tolist() == expected
