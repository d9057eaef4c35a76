"""Memory shared by two processes, which holds the arrays of one batch after the other."""

import math
import mmap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]

ALIGNMENT = 64  # bytes, a cache line: where arrays may start


class Place(NamedTuple):
    """Stands for an array that lies in a slot, `offset` bytes after its start."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


class Slot:
    """A block of memory that a process shares with the processes it forks. It does not count against /dev/shm.

    Args:
        size: bytes; with 0 nothing is shared.
    """

    def __init__(self, size: int) -> None:
        self.memory: Any = mmap.mmap(-1, size) if size else b""
        self.clear()

    def clear(self) -> None:
        """Forget the arrays of the last batch."""
        self.used = 0
        self.arrays: dict[int, int] = {}  # address of an array -> its offset

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Like numpy.empty, in shared memory while there is room."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not size or self.used + size > len(self.memory):
            return np.empty(shape, dtype)
        array: np.ndarray = np.ndarray(shape, dtype, buffer=self.memory, offset=self.used)
        self.arrays[array.ctypes.data] = self.used
        self.used += math.ceil(size / ALIGNMENT) * ALIGNMENT
        return array

    def pack(self, arrays: Arrays) -> dict[str, np.ndarray | Place]:
        """Prepare arrays for the other process: each one that fits is in shared memory and replaced by a `Place`."""
        packed: dict[str, np.ndarray | Place] = {}
        for key, array in arrays.items():
            if array.dtype.hasobject or array.dtype.names:  # not plain memory
                packed[key] = array
                continue
            if not (array.ctypes.data in self.arrays and array.flags.c_contiguous):
                source, array = array, self.empty(array.shape, array.dtype)
                array[...] = source
            offset = self.arrays.get(array.ctypes.data)
            packed[key] = array if offset is None else Place(array.dtype.str, array.shape, offset)
        return packed

    def unpack(self, packed: dict[str, np.ndarray | Place]) -> Arrays:
        """The arrays that the other process packed; those in shared memory are views of it."""
        return {
            key: np.ndarray(value.shape, value.dtype, buffer=self.memory, offset=value.offset)
            if isinstance(value, Place)
            else value
            for key, value in packed.items()
        }
