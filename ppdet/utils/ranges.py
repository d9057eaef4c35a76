"""Checks of constructor arguments: numbers in a range, and one of several words. Each error is one readable line."""

import re
from collections.abc import Sequence
from typing import Any

# What no experiment comes near. A configuration from a stranger may ask for as much, but not for all of the memory.
MAX_PIXELS = 2**28  # of an image that the network reads
MAX_BATCH = 10_000  # images
MAX_CHANNELS = 4096  # of a layer
MAX_CLASSES = 30_000
MAX_RECORDS = 10_000_000  # images of an epoch that a data set's `repeat` makes


def require_number(
    name: str,
    value: float,
    *,
    above: float | None = None,
    minimum: float | None = None,
    below: float | None = None,
    maximum: float | None = None,
) -> None:
    """Raise ValueError unless a number lies within the bounds that are given; NaN never does.

    Args:
        name: the parameter, such as "FCOSHead.prior_prob".
        above, below: bounds that the number must not reach.
        minimum, maximum: bounds that the number may reach.
    """
    bounds = [
        (above, "above", above is None or value > above),
        (minimum, "at least", minimum is None or value >= minimum),
        (below, "below", below is None or value < below),
        (maximum, "at most", maximum is None or value <= maximum),
    ]
    if not all(is_met for _, _, is_met in bounds):
        expected = " and ".join(f"{words} {bound:g}" for bound, words, _ in bounds if bound is not None)
        raise ValueError(f"{name} is {value}; it must be {expected}")


def require_length(name: str, value: float | str, minimum: float = 0) -> None:
    """Raise ValueError unless a value is a number of at least `minimum`, or a share of the run, from 0% to 100%.

    If the minimum is above 0, so must be the share.
    """
    if not isinstance(value, str):
        require_number(name, value, minimum=minimum)
    elif not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?%", value) or float(value[:-1]) > 100:
        raise ValueError(f"{name} is {value!r:.60}; it must be a number, or a share of the run from 0% to 100%")
    elif minimum > 0 and not float(value[:-1]):
        raise ValueError(f"{name} is {value!r:.60}; it must be a number, or a share of the run above 0%")


def require_pixels(name: str, height: float, width: float) -> None:
    """Raise ValueError if a size in pixels is larger than that of any image that the network reads."""
    if not height * width <= MAX_PIXELS:
        raise ValueError(f"{name} is {height:g} x {width:g}; it must be at most {MAX_PIXELS:,} pixels")


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of the choices; `name` is the parameter, such as "FCOSLoss.quality"."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(_in_words, choices))}")


def _in_words(choice: Any) -> str:
    """Write a choice as in YAML: true for True."""
    return str(choice).lower() if isinstance(choice, bool) else str(choice)
