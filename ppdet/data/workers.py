"""Processes that make batches beside the one that trains."""

import mmap
import multiprocessing
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Optional

import numpy as np

AHEAD = 2  # batches that every worker makes ahead of the one in use
ALIGNMENT = 64  # bytes; a cache line
STOP_SECONDS = 5.0  # to finish the batch at hand when the pool closes

Arrays = dict[str, np.ndarray]


def can_fork() -> bool:
    """Whether this system has what workers need. Windows has not."""
    return "fork" in multiprocessing.get_all_start_methods()


class WorkerPool:
    """Forked processes that call `make` on tasks; they live until `close`, over any number of runs.

    Args:
        make: task -> dict of numpy arrays, the same for the same task wherever it runs.
        count: processes.
        slot_bytes: room for one batch in memory that a worker shares with this process. A batch that needs more,
            and any batch where this is 0, is sent through a pipe. Only what is used of it is ever taken.

    A worker ends by itself when this process is gone, however it ended.
    """

    def __init__(self, make: Callable[[Any], Arrays], count: int, slot_bytes: int) -> None:
        context = multiprocessing.get_context("fork")
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        # Memory without a name: no /dev/shm to run out of, and nothing to clean up after a crash.
        self._slots = [[mmap.mmap(-1, slot_bytes) for _ in range(AHEAD)] if slot_bytes else [] for _ in range(count)]
        for slots in self._slots:
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(target=_work, args=(make, theirs, slots, list(self._connections)), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
        self.close = weakref.finalize(self, _end, self._connections, self._processes)

    def run(self, tasks: Sequence[Any], finish: Callable[[Arrays], Any]) -> Iterator[Any]:
        """finish(make(task)) for every task, in their order.

        The arrays that `finish` gets are overwritten after it returns. One run at a time; one that ends early, or
        by an error, leaves the pool ready for the next.

        Raises:
            RuntimeError: a worker died. The pool is closed then.
        """
        count = len(self._processes)
        sent = received = 0
        try:
            while received < len(tasks):
                while sent < min(len(tasks), received + AHEAD * count):
                    self._send(sent % count, sent // count % AHEAD, tasks[sent])
                    sent += 1
                arrays = self._receive(received % count)
                received += 1
                batch = finish(arrays)
                if sent < len(tasks):
                    self._send(sent % count, sent // count % AHEAD, tasks[sent])
                    sent += 1
                yield batch
        finally:
            while received < sent and self.close.alive:
                self._receive(received % count)
                received += 1

    def _send(self, worker: int, slot: int, task: Any) -> None:
        try:
            self._connections[worker].send((slot, task))
        except OSError:
            self._fail(worker)

    def _receive(self, worker: int) -> Arrays:
        try:
            slot, content = self._connections[worker].recv()
        except (EOFError, OSError):
            self._fail(worker)
        return content if slot is None else _unpack(content, self._slots[worker][slot])

    def _fail(self, worker: int) -> None:
        process = self._processes[worker]
        process.join(STOP_SECONDS)
        code = process.exitcode
        cause = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        self.close()
        raise RuntimeError(
            f"a data worker process died ({cause}), perhaps for lack of memory: lower worker_num or"
            " batch_size; with worker_num 0 an error shows where it happens"
        ) from None


def _end(connections: Sequence[Connection], processes: Sequence[BaseProcess]) -> None:
    for connection in connections:
        connection.close()  # a worker that waits, or wants to answer, sees it and returns
    for process in processes:
        process.join(STOP_SECONDS)
        if process.is_alive():
            process.kill()


def _work(
    make: Callable[[Any], Arrays], connection: Connection, slots: Sequence[mmap.mmap], inherited: Sequence[Connection]
) -> None:
    """What a worker does: tasks come as (slot, task), batches go back as (slot, where in it), or (None, batch)."""
    import cv2

    # Copies of the other ends, this worker's own among them, would keep the pipes open when the main process is gone.
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A forked process must not use the thread pool of its parent, and workers are parallel as they are.
    cv2.setNumThreads(0)
    while True:
        try:
            slot, task = connection.recv()
        except (EOFError, OSError):
            return  # the main process closed the pool, or is gone
        batch = make(task)
        content = _pack(batch, slots[slot]) if slots else None
        try:
            connection.send((None, batch) if content is None else (slot, content))
        except OSError:
            return


def _pack(arrays: Arrays, slot: mmap.mmap) -> Optional[list[tuple]]:
    """Copy `arrays` into `slot`: their (key, dtype, shape, offset), or None when they do not fit."""
    places, offset = [], 0
    for key, array in arrays.items():
        places.append((key, array.dtype.str, array.shape, offset))
        offset += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    if offset > len(slot):
        return None
    for place, array in zip(places, arrays.values()):
        _view(place, slot)[...] = array
    return places


def _unpack(places: Sequence[tuple], slot: mmap.mmap) -> Arrays:
    return {place[0]: _view(place, slot) for place in places}


def _view(place: tuple, slot: mmap.mmap) -> np.ndarray:
    _, dtype, shape, offset = place
    return np.ndarray(shape, dtype, buffer=slot, offset=offset)
