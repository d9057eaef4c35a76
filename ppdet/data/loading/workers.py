"""Processes that make batches beside the one that trains."""

import contextlib
import math
import mmap
import multiprocessing
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ppdet.utils.errors import WorkerError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.fork import objects_stay_here
from ppdet.utils.process.stop import SIGNALS, signals_later

logger = get_logger(__name__)

AHEAD = 2  # batches that every worker makes ahead of the one in use
ALIGNMENT = 64  # bytes; a cache line
STOP_SECONDS = 5.0  # to finish the batch at hand when the pool closes
SILENT_SECONDS = 60.0  # without the batch that is waited for: it is told, and waited for all the same
# A library prints the stack of its C++ code at these.
CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")

Arrays = dict[str, np.ndarray]


class WorkerPool:
    """Forked processes that call `make` on tasks; they live until `close`, over any number of runs.

    Args:
        make: make(task, empty) -> dict of numpy arrays, the same for the same task wherever it runs. An array that
            it made by `empty`, which is called like numpy.empty, lies in shared memory already.
        count: processes.
        slot_bytes: room for one batch in memory that a worker shares with this process. Arrays beyond it, and all of
            them where it is 0, are sent through a pipe. Only what is used of it is ever taken.

    A worker ends by itself when this process is gone, however it ended.
    """

    def __init__(self, make: Callable[[Any, Callable], Arrays], count: int, slot_bytes: int) -> None:
        context = multiprocessing.get_context("fork")
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        # Memory without a name: no /dev/shm to run out of, and nothing to clean up after a crash.
        self._slots = [[Slot(slot_bytes) for _ in range(AHEAD)] for _ in range(count)]
        for slots in self._slots:
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(target=_work, args=(make, theirs, slots, list(self._connections)), daemon=True)
            with signals_later(), objects_stay_here():  # a worker takes no signals, and frees no tensors
                process.start()
            theirs.close()
            self._processes.append(process)
        self.close = weakref.finalize(self, _end, self._connections, self._processes)

    def run(self, tasks: Sequence[Any], finish: Callable[[Arrays], Any]) -> Iterator[Any]:
        """finish(arrays that `make` made) for every task, in their order.

        The arrays that `finish` gets are overwritten after it returns. One run at a time; one that ends early, or
        by an error, leaves the pool ready for the next.

        Raises:
            WorkerError: a worker died, and the pool is closed; or what it made cannot be handed over.
        """
        count = len(self._processes)
        sent = received = 0
        try:
            while received < len(tasks):
                while sent < min(len(tasks), received + AHEAD * count):
                    self._send(sent % count, sent // count % AHEAD, tasks[sent])
                    sent += 1
                message = self._receive(received % count, tasks[received])
                received += 1
                batch = finish(self._unpack(received - 1, tasks[received - 1], *message))
                if sent < len(tasks):
                    self._send(sent % count, sent // count % AHEAD, tasks[sent])
                    sent += 1
                yield batch
        except (KeyboardInterrupt, SystemExit):
            self.close()  # half of a message may have been read
            raise
        finally:
            while received < sent and self.close.alive:
                self._receive(received % count, tasks[received])
                received += 1

    def _send(self, worker: int, slot: int, task: Any) -> None:
        try:
            self._connections[worker].send((slot, task))
        except OSError:
            self._fail(worker, None)

    def _receive(self, worker: int, task: Any) -> tuple[int, Arrays | str]:
        connection, process, silent = self._connections[worker], self._processes[worker], 0.0
        try:
            while not connection.poll(SILENT_SECONDS):
                silent += SILENT_SECONDS
                logger.warning(
                    "a data worker (process %d) has been at one batch for %.0f s: is the disk or the network that has "
                    "the images there? Waiting on",
                    *(process.pid, silent),
                )
            return connection.recv()
        except (EOFError, OSError):
            self._fail(worker, task)

    def _unpack(self, number: int, task: Any, slot: int, packed: Arrays | str) -> Arrays:
        if isinstance(packed, str):
            raise WorkerError(f"a data worker cannot hand over what it made: {packed}", task)
        return self._slots[number % len(self._slots)][slot].unpack(packed)

    def _fail(self, worker: int, task: Any) -> NoReturn:
        process = self._processes[worker]
        process.join(STOP_SECONDS)
        code = process.exitcode
        cause = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        self.close()
        # SIGKILL: from a system without memory. SIGBUS: there is no room for shared memory.
        is_short = code is not None and -code in (signal.SIGKILL, signal.SIGBUS)
        advice = "perhaps for lack of memory: lower worker_num or batch_size" if is_short else "a defect"
        raise WorkerError(
            f"a data worker process died ({cause}), {advice}; with worker_num 0 an error shows where it happens",
            task,
        ) from None


def _end(connections: Sequence[Connection], processes: Sequence[BaseProcess]) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):  # the worker may be dead
            connection.send(None)
        connection.close()
    for process in processes:
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()


def _work(
    make: Callable[[Any, Callable], Arrays],
    connection: Connection,
    slots: Sequence["Slot"],
    inherited: Sequence[Connection],
) -> None:
    """What a worker does: tasks come as (number of slot, task), batches go back as (number of slot, packed arrays).

    None ends it.
    """
    import cv2

    # Copies of the other ends, this worker's own among them, would keep the pipes open when the main process is gone.
    for other in inherited:
        other.close()
    # A terminal, a launcher or a scheduler sends these to every process of a job. They are meant for the main process,
    # which still needs its workers to finish a step, and ends them itself.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for name in CRASHES:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    # A forked process must not use the thread pool of its parent, and workers are parallel as they are.
    cv2.setNumThreads(0)
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return  # the main process is gone
        if message is None:
            return
        number, task = message
        slot = slots[number]
        slot.clear()
        try:
            packed: Arrays | str = slot.pack(make(task, slot.empty))
            message = ForkingPickler.dumps((number, packed))  # raises errors of any kind
        except Exception as error:
            message = ForkingPickler.dumps((number, f"{type(error).__name__}: {error}"))
        try:
            connection.send_bytes(message)
        except OSError:
            return


class Slot:
    """Memory that two processes share, for the arrays of one batch after the other."""

    def __init__(self, size: int) -> None:
        self.memory = mmap.mmap(-1, size) if size else b""
        self.used = 0
        self.arrays: dict[int, int] = {}  # address -> offset

    def clear(self) -> None:
        self.used = 0
        self.arrays = {}

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """As numpy.empty, in shared memory while there is room."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not size or self.used + size > len(self.memory):
            return np.empty(shape, dtype)
        array = np.ndarray(shape, dtype, buffer=self.memory, offset=self.used)
        self.arrays[array.ctypes.data] = self.used
        self.used += -(-size // ALIGNMENT) * ALIGNMENT
        return array

    def pack(self, arrays: Arrays) -> Arrays:
        """`arrays` as the other process can have them: in place of each that fits, where it is, a `Place`."""
        packed = {}
        for key, array in arrays.items():
            address = array.ctypes.data
            if array.dtype.hasobject or array.dtype.names:  # not plain memory
                packed[key] = array
                continue
            if not (address in self.arrays and array.flags.c_contiguous):
                source, array = array, self.empty(array.shape, array.dtype)
                array[...] = source
                address = array.ctypes.data
            offset = self.arrays.get(address)
            packed[key] = array if offset is None else Place(array.dtype.str, array.shape, offset)
        return packed

    def unpack(self, packed: Arrays) -> Arrays:
        return {
            key: np.ndarray(value.shape, value.dtype, buffer=self.memory, offset=value.offset)
            if isinstance(value, Place)
            else value
            for key, value in packed.items()
        }


class Place(NamedTuple):
    """An array in a slot."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
