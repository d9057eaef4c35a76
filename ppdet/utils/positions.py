"""Finding ids in lists of ids."""

from collections.abc import Iterable

import numpy as np


def positions(values: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """Return the position in `ids`, which are all different, of each value (M,) int64; -1 where it is not in them."""
    known = np.array(list(ids), dtype=np.int64)
    if not len(known):
        return np.full(len(values), -1)
    order = np.argsort(known)
    places = order[np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)]
    return np.where(known[places] == values, places, -1)
