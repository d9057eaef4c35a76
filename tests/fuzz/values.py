"""Values drawn by hypothesis, written to standard output as a pickle: `python tests/fuzz/values.py NUMBER COUNT`.

It is a program of its own because hypothesis also takes constants from the modules that a process has loaded. Here it
finds none but this one, so that the same number gives the same values, whatever the project's code is.
"""

import pickle
import sys
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

T = TypeVar("T")


def drawn(strategy: st.SearchStrategy[T], count: int, number: int) -> list[T]:
    """At most `count` values of a strategy, the same ones for the same number."""
    found: list[T] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: T) -> None:
        found.append(value)

    take()
    return found


def main() -> None:
    number, count = map(int, sys.argv[1:])
    # With the category Cs: lone surrogates, which JSON and YAML can spell.
    text = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
    scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
    tree = st.recursive(
        scalar, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4))
    )
    numbers = st.one_of(st.integers(), st.floats())
    sys.stdout.buffer.write(pickle.dumps([drawn(kind, count, number) for kind in (text, numbers, tree)]))


if __name__ == "__main__":
    main()
