"""What is told once, by whichever process meets it first."""

import mmap
from collections.abc import Sequence


class Once:
    """Says for each of some kinds whether it is met for the first time, here or in a process forked from this one.

    A copy, or what is sent to another process, starts anew.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = list(kinds)
        self._met = mmap.mmap(-1, len(self._kinds))  # memory that forked processes share

    def __reduce__(self) -> tuple:
        return type(self), (self._kinds,)

    def first(self, kind: str) -> bool:
        """Whether `kind`, one of the kinds, has not been asked for before."""
        place = self._kinds.index(kind)
        before, self._met[place] = self._met[place], 1
        return not before
