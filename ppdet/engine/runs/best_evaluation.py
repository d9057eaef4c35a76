"""Which evaluation of a run is the best one: its weights become best_model, and `patience` counts from it."""

import math
from collections.abc import Sequence


def is_better(value: float, best: float | None) -> bool:
    """Whether an evaluation with a number becomes the best one after earlier ones, of which `best` is the best.

    Higher is better, and of equal numbers the first one counts. While the best number is 0, nothing has been found yet,
    and the later evaluation counts, which is of weights that were trained longer. A NaN is lower than all numbers. None
    stands for no earlier evaluation.
    """
    if best is None or (math.isnan(best) and not math.isnan(value)):
        return True
    return value > best or value == best == 0


def best_evaluation(values: Sequence[float]) -> int | None:
    """Return the position of the best of a run's numbers, in their order by `is_better`; None without numbers."""
    best: int | None = None
    for position, value in enumerate(values):
        if is_better(value, None if best is None else values[best]):
            best = position
    return best
