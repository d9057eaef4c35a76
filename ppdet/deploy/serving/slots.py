"""Memory that the server shares with its worker processes, in slots of which each holds one prepared image."""

import mmap
import os
import secrets
import tempfile
from multiprocessing import reduction
from typing import Any

from ppdet.data.loading.shared_slot import Slot


class Slots:
    """`count` slots of `size` bytes each. A worker process gets them as an argument when it is spawned.

    The memory has no name that could stay behind: whatever process dies, and however, the system frees it with the last
    one. On Linux it does not count against /dev/shm. Only pages that were written take up memory, and the slot that was
    given back last is taken first.
    """

    def __init__(self, count: int, size: int) -> None:
        self.size = size
        self._free = list(range(count))
        if os.name == "nt":  # the system frees a mapping of this name with the last process that has it
            self._handle: Any = f"ppdet-{os.getpid()}-{secrets.token_hex(8)}"
            self._memory = mmap.mmap(-1, count * size, self._handle)  # type: ignore[call-arg, arg-type, unused-ignore]
        else:
            self._handle = _anonymous_file()
            os.ftruncate(self._handle, count * size)
            self._memory = mmap.mmap(self._handle, count * size)

    def __reduce__(self) -> tuple:
        handle = self._handle if os.name == "nt" else reduction.DupFd(self._handle)
        return _attach, (handle, len(self._memory), self.size)

    @property
    def free(self) -> int:
        """Slots that nobody uses."""
        return len(self._free)

    def take(self) -> int:
        """The number of a slot, which is the caller's until `give_back`."""
        return self._free.pop()

    def give_back(self, number: int) -> None:
        self._free.append(number)

    def __getitem__(self, number: int) -> Slot:
        """The slot, as an empty one: what it held is overwritten by `pack`, and read by `unpack`."""
        slot = Slot(0)
        slot.memory = memoryview(self._memory)[number * self.size : (number + 1) * self.size]
        return slot


def _attach(handle: Any, total: int, size: int) -> Slots:
    """The slots of the parent process; in a worker, nobody takes or gives back."""
    slots = Slots.__new__(Slots)
    slots.size = size
    slots._free = []
    if os.name == "nt":
        slots._memory = mmap.mmap(-1, total, handle)
    else:
        slots._memory = mmap.mmap(handle.detach(), total)
    return slots


def _anonymous_file() -> int:
    """The descriptor of an empty file without a name, in memory where the system has that, else on a disk."""
    try:
        return os.memfd_create("ppdet")
    except (AttributeError, OSError):
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
