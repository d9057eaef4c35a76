"""A pool of worker processes that prepare batches ahead of the training loop.

Each worker answers its tasks in order, and task number i always goes to worker i % count, so that batches arrive in the
order of the tasks. Arrays travel through memory that forked workers share, or else through a pipe.
"""

import contextlib
import logging
import os
import pickle
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, NoReturn

from ppdet.core.extensions import import_extensions, imported
from ppdet.data.loading.shared_slot import Arrays, Slot
from ppdet.data.transforms.batches.pad_batch import Empty
from ppdet.utils.errors import UserError, WorkerError
from ppdet.utils.logger import collect_records, get_logger, message_of
from ppdet.utils.process.once import warn_once
from ppdet.utils.process.start import (
    StartMethod,
    cause_of_death,
    hidden_main,
    parent_handles_signals,
    process_context,
    starting,
)
from ppdet.utils.process.stop import signals_later

logger = get_logger(__name__)

PREFETCH = 2  # batches that each worker prepares beyond the one in use
STOP_SECONDS = 5.0  # time that a worker has to finish its current batch when the pool closes
SILENT_SECONDS = 60.0  # without an answer, after which a warning is logged; the pool keeps waiting

Make = Callable[[Any, Empty], Arrays]


class LogLine(NamedTuple):
    """A log record of a worker. `once`: the key of a warning that is logged once, see `warn_once`."""

    logger: str
    level: int
    message: str
    once: str | None


class Answer(NamedTuple):
    """A worker's answer to a task: packed arrays or the text of an error, and the log records of the task."""

    slot: int
    content: Any
    log: list[LogLine]


class WorkerPool:
    """Worker processes that call `make` on tasks. They live until `close`, over any number of runs.

    A worker ends by itself when the parent process is gone, however that ended.

    Args:
        make: make(task, empty) -> dict of NumPy arrays. It must depend on the task alone, since any worker may get it.
            `empty` is called like numpy.empty and returns an array in shared memory; arrays made otherwise are copied.
            With spawn, `make` must be picklable.
        count: number of worker processes.
        slot_bytes: shared memory for one batch, in bytes; each worker has PREFETCH such slots. Arrays that do not fit
            go through a pipe; with 0, or with spawn, all of them do. Only the pages that are written take up memory.
        start: how processes are started, see `process_context`.

    Raises:
        UserError: `make` cannot be sent to a spawned process.
        WorkerError: the system cannot start so many processes, or has no memory for them.
    """

    def __init__(self, make: Make, count: int, slot_bytes: int, start: StartMethod = "auto") -> None:
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self.close = weakref.finalize(self, _end, self._connections, self._processes)
        try:
            self._start(make, count, slot_bytes, process_context(start))
        except OSError as error:
            self.close()
            reason = error.strerror or type(error).__name__
            raise WorkerError(f"data workers cannot be started ({reason}): lower worker_num", None) from None

    def _start(self, make: Make, count: int, slot_bytes: int, context: BaseContext) -> None:
        is_fork = context.get_start_method() == "fork"
        self._slots = [[Slot(slot_bytes if is_fork else 0) for _ in range(PREFETCH)] for _ in range(count)]
        work = make if is_fork else _pickled(make)
        if not is_fork and os.name == "posix":
            resource_tracker.ensure_running()  # otherwise the first spawn starts it, and unblocks signals
        for slots in self._slots:
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            inherited = list(self._connections) if is_fork else []
            arguments = (work, theirs, slots, inherited, imported())
            process = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
            with signals_later(), starting(context):
                process.start()
            theirs.close()
            self._processes.append(process)

    def run(self, tasks: Sequence[Any], finish: Callable[[Arrays], Any]) -> Iterator[Any]:
        """Yield finish(arrays) for the arrays that `make` returned for every task, in the order of the tasks.

        The arrays that `finish` gets are overwritten after it returns. One run at a time; a run that ends early, or
        with an error, leaves the pool ready for the next one.

        Raises:
            WorkerError: a worker died, and the pool is closed; or `make` failed, and the pool continues.
        """
        count = len(self._processes)
        sent = received = 0
        try:
            while received < len(tasks):
                while sent < min(len(tasks), received + PREFETCH * count):
                    self._send(sent % count, sent // count % PREFETCH, tasks[sent])
                    sent += 1
                task, number = tasks[received], received
                answer = self._receive(number % count, task)
                received += 1
                batch = finish(self._unpack(self._slots[number % count], answer, task))
                if sent < len(tasks):
                    self._send(sent % count, sent // count % PREFETCH, tasks[sent])
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

    def _receive(self, worker: int, task: Any) -> Answer:
        connection, process, silent = self._connections[worker], self._processes[worker], 0.0
        try:
            while not connection.poll(SILENT_SECONDS):
                silent += SILENT_SECONDS
                logger.warning(
                    "data worker process %d has been preparing one batch for %.0f s: check the disk or network that "
                    "holds the images. Still waiting",
                    *(process.pid, silent),
                )
            return connection.recv()
        except (EOFError, OSError):
            self._fail(worker, task)

    def _unpack(self, slots: Sequence[Slot], answer: Answer, task: Any) -> Arrays:
        for line in answer.log:
            if line.once is not None:
                warn_once(logging.getLogger(line.logger), line.once, line.message)
            else:
                logging.getLogger(line.logger).log(line.level, line.message)
        if isinstance(answer.content, str):
            raise WorkerError(f"a data worker could not prepare a batch: {answer.content}", task)
        return slots[answer.slot].unpack(answer.content)

    def _fail(self, worker: int, task: Any) -> NoReturn:
        """Close the pool, and raise a WorkerError that says how the worker died."""
        process = self._processes[worker]
        process.join(STOP_SECONDS)
        how, is_short = cause_of_death(process)
        self.close()
        advice = "perhaps because memory ran out: lower worker_num or batch_size" if is_short else "a defect"
        raise WorkerError(
            f"a data worker process died ({how}), {advice}; with worker_num 0 the error appears where it happens",
            task,
        ) from None


def _pickled(make: Make) -> bytes:
    try:
        with hidden_main():
            return bytes(ForkingPickler.dumps(make))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"data workers are started by spawn (worker_start), and a transform cannot be sent to them ({error}): "
            "define its class in a file of its own, and name that with --import; or set worker_num: 0"
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
            process.join(STOP_SECONDS)


def _work(
    work: Make | bytes,
    connection: Connection,
    slots: Sequence[Slot],
    inherited: Sequence[Connection],
    extensions: Sequence[str],
) -> None:
    """The main function of a worker: answers (slot number, task) with an Answer, until it receives None.

    Args:
        work: `make`, pickled in a spawned process.
        inherited: the parent's ends of pipes, of which a forked process has copies. If these stayed open, nobody would
            notice that the parent is gone.
        extensions: what the parent has imported by --import; a spawned process needs it to unpickle `make`.
    """
    import cv2

    for other in inherited:
        other.close()
    parent_handles_signals()  # it needs its workers to finish the current step
    # A forked process must not use the thread pool of its parent, and the workers themselves run in parallel.
    cv2.setNumThreads(0)
    records = collect_records()
    make, failure = None, ""
    try:
        if isinstance(work, bytes):
            import_extensions(extensions)
            make = pickle.loads(work)  # nosec B301  # from the parent process, not from a file
        else:
            make = work
    except UserError as error:
        failure = str(error)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return  # the parent is gone
        if message is None:
            return
        number, task = message
        content = failure if make is None else _packed(make, task, slots[number])
        log = [LogLine(r.name, r.levelno, message_of(r), getattr(r, "once", None)) for r in records]
        records.clear()
        try:
            answer = ForkingPickler.dumps(Answer(number, content, log))  # raises errors of any kind
        except Exception as error:
            answer = ForkingPickler.dumps(Answer(number, f"{type(error).__name__}: {error}", log))
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _packed(make: Make, task: Any, slot: Slot) -> dict[str, Any] | str:
    slot.clear()
    try:
        return slot.pack(make(task, slot.empty))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
