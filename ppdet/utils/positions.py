"""Finding ids in lists of ids."""

from collections.abc import Iterable

import numpy as np


def positions(values: np.ndarray, ids: Iterable[int]) -> np.ndarray:
    """Return the position in `ids`, which are all different, of each value (M,) int64; -1 where it is not in them."""
    known = np.array(list(ids), dtype=np.int64)
    if not len(known):
        return np.full(len(values), -1)
    first, last = int(known.min()), int(known.max())
    if last - first <= 4 * (len(known) + len(values)):  # a table, which is several times faster than searching
        table = np.full(last - first + 2, -1)  # its last row is that of all other values
        table[known - first] = np.arange(len(known))
        return table[np.where((values < first) | (values > last), last - first + 1, values - first)]
    order = np.argsort(known)
    places = order[np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)]
    return np.where(known[places] == values, places, -1)
