"""Memory shared by two processes, which holds the arrays of one batch after the other."""

import contextlib
import math
import mmap
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
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
    """A block of memory shared by two processes.

    Args:
        size: bytes; with 0 nothing is shared.
        named: a spawned process finds the memory by its name. Without a name only a forked process has it: nothing
            needs cleaning up after a crash, and it does not count against /dev/shm.
    """

    def __init__(self, size: int, *, named: bool) -> None:
        self._named: SharedMemory | None = None
        if named and size:
            with contextlib.suppress(OSError):  # the system has no room for it
                self._named = SharedMemory(create=True, size=size)
        self._start(mmap.mmap(-1, size) if size and not named else None)

    def _start(self, anonymous: mmap.mmap | None) -> None:
        self.memory: Any = self._named.buf if self._named else anonymous or b""
        self.used = 0
        self.arrays: dict[int, int] = {}  # address of an array -> its offset

    def __getstate__(self) -> tuple[SharedMemory | None]:
        return (self._named,)

    def __setstate__(self, state: tuple[SharedMemory | None]) -> None:
        (self._named,) = state
        self._start(None)

    def free(self) -> None:
        """Give the memory back to the system."""
        self.memory = b""
        if self._named:
            with contextlib.suppress(BufferError):  # somebody still holds an array
                self._named.close()
            self._named.unlink()
            self._named = None

    def clear(self) -> None:
        """Forget the arrays of the last batch."""
        self.used = 0
        self.arrays = {}

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
