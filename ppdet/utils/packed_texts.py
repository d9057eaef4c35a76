"""Many texts as two arrays, which processes share without copies and files keep as they are."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np


class PackedTexts(Sequence[str]):
    """N texts, one after the other in UTF-8. Lone surrogates, as names of files may have, are kept.

    Args:
        data: (M,) uint8, the bytes of all texts.
        ends: (N + 1,) int64: text i is data[ends[i]:ends[i + 1]].
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray) -> None:
        self.data = data
        self.ends = ends

    @classmethod
    def of(cls, texts: Sequence[str]) -> "PackedTexts":
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)], dtype=np.int64))

    def __iter__(self) -> Iterator[str]:
        data = self.data.tobytes()  # slices of bytes are faster than those of arrays
        return (data[start:end].decode("utf-8", "surrogatepass") for start, end in pairwise(self.ends.tolist()))

    def __len__(self) -> int:
        return len(self.ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return self.data[self.ends[place] : self.ends[place + 1]].tobytes().decode("utf-8", "surrogatepass")
