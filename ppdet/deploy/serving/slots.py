"""Memory that the server shares with its worker processes, in slots of which each holds one prepared image."""

import asyncio
import mmap
import os
import secrets
import tempfile
from multiprocessing import reduction
from typing import Any

from ppdet.data.loading.shared_slot import Slot
from ppdet.deploy.serving.linux_calls import free_pages

IS_SPARSE = os.name != "nt"  # whether memory that was not written takes up none


SLOT_KEPT = 32 * 2**20  # bytes; the pages of larger slots are given back to the system after each use


class Slots:
    """`count` slots of at least `size` bytes each. A worker process gets them as an argument when it is spawned.

    The memory has no name that could stay behind: whatever process dies, and however, the system frees it with the last
    one. On Linux it does not count against /dev/shm. If `IS_SPARSE`, only pages that were written take up memory, and
    a process has only the slots that it used in its address space. The slot that was given back last is taken first.
    """

    def __init__(self, count: int, size: int) -> None:
        granularity = mmap.ALLOCATIONGRANULARITY
        self.size = (size + granularity - 1) // granularity * granularity
        self._free = list(range(count))
        self._count = count
        self._maps: dict[int, Any] = {}
        if os.name == "nt":  # the system frees a mapping of this name with the last process that has it
            self._handle: Any = f"ppdet-{os.getpid()}-{secrets.token_hex(8)}"
            self._map_all()
        else:
            self._handle = _anonymous_file()
            os.ftruncate(self._handle, count * self.size)

    def __reduce__(self) -> tuple:
        handle = self._handle if os.name == "nt" else reduction.DupFd(self._handle)
        return _attach, (handle, self._count, self.size)

    @property
    def free(self) -> int:
        """Slots that nobody uses."""
        return len(self._free)

    def take(self) -> int:
        """The number of a slot, which is the caller's until `give_back`."""
        return self._free.pop()

    def give_back(self, number: int) -> None:
        self._free.append(number)

    def empty(self, number: int) -> None:
        """Give the memory of a slot back to the system, where that goes."""
        if IS_SPARSE:
            free_pages(self._handle, number * self.size, self.size)

    def __getitem__(self, number: int) -> Slot:
        """The slot, as an empty one: what it held is overwritten by `pack`, and read by `unpack`."""
        if number not in self._maps:
            self._maps[number] = mmap.mmap(self._handle, self.size, offset=number * self.size)
        slot = Slot(0)
        slot.memory = self._maps[number]
        return slot

    def _map_all(self) -> None:
        memory = mmap.mmap(-1, self._count * self.size, self._handle)
        view = memoryview(memory)
        self._maps = {n: view[n * self.size : (n + 1) * self.size] for n in range(self._count)}


class SlotQueue:
    """Slots for which those wait who come when all are taken, the first one first. It belongs to an event loop."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._free = asyncio.Semaphore(slots.free)

    async def take(self) -> int:
        """The number of a slot, which is the caller's until `give_back`."""
        await self._free.acquire()
        return self.slots.take()

    async def give_back(self, number: int) -> None:
        if self.slots.size > SLOT_KEPT:
            await asyncio.get_running_loop().run_in_executor(None, self.slots.empty, number)
        self.slots.give_back(number)
        self._free.release()


def _attach(handle: Any, count: int, size: int) -> Slots:
    """The slots of the parent process; in a worker, nobody takes or gives back."""
    slots = Slots.__new__(Slots)
    slots.size, slots._count = size, count
    slots._free, slots._maps = [], {}
    slots._handle = handle if os.name == "nt" else handle.detach()
    if os.name == "nt":
        slots._map_all()
    return slots


def _anonymous_file() -> int:
    """The descriptor of an empty file without a name, in memory where the system has that, else on a disk."""
    try:
        return os.memfd_create("ppdet")
    except (AttributeError, OSError):
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
