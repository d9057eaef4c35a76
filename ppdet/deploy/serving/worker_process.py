"""Processes that work for the server. Each can be killed at any time, and another one takes its place.

multiprocessing's own pools, and Pebble's, do not do: their workers share queues, so that one which is killed at a bad
moment takes the others with it. Here each process has a pipe of its own.
"""

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ppdet.core.extensions import import_extensions, imported
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.utils.errors import DeployError, UserError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.start import process_context, starting
from ppdet.utils.process.stop import SIGNALS, signals_later

logger = get_logger(__name__)

START_S = 900.0  # longest time for a process to load its model and run it once
MOST_FAILED_STARTS = 3  # in a row
PAUSE_S = 1.0  # after a start that failed
JOIN_S = 5.0  # a killed process is gone long before
OOM_SCORE = "500"  # Linux, when memory is short, kills a process that can be started again rather than the server
# `starting` replaces the main module for a moment, which two threads must not do at once.
_one_start = threading.Lock()


class Died(Exception):
    """A worker process ended before it answered.

    Attributes:
        overdue: it was killed because it took longer than it may.
    """

    def __init__(self, message: str, *, overdue: bool = False) -> None:
        super().__init__(message)
        self.overdue = overdue


class Ended(Exception):
    """There is no worker process any more: the server is about to end."""


class JobFailed(Exception):
    """What a worker was asked for raised an exception there; the text is its traceback."""


class WorkerProcess:
    """A worker process, which is started again when it has died.

    Any thread may call it. A call that comes while another one is answered waits in the process's pipe, so that the
    process goes on without a pause.

    Args:
        kind: what metrics and log call it.
        make: a class, or a function of a module. In the process, make(*arguments) returns the object whose methods
            `call` calls. Its attribute `hello` is sent to the parent first.
        arguments: picklable arguments of `make`.
        limit: returns how many seconds a call may take at most.

    Attributes:
        failure: why the process cannot be started; the server ends with it. None if it can.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[..., Any],
        arguments: tuple,
        metrics: Metrics,
        limit: Callable[[], float],
        on_ready: Callable[[Any], None] = lambda hello: None,
    ) -> None:
        self.kind = kind
        self.make = make
        self.arguments = arguments
        self.metrics = metrics
        self.limit = limit
        self.on_ready = on_ready
        self.failure: DeployError | None = None
        self._life: _Life | None = None
        self._living = threading.Lock()
        self._has_run = self._ended = False
        metrics.restarts.labels(kind)
        metrics.kills.labels(kind)
        atexit.register(self.end)

    @property
    def pid(self) -> int | None:
        """The system's number of the process, None before the first one."""
        life = self._life
        return life.process.pid if life else None

    @property
    def ready(self) -> bool:
        """Whether the process is there, and has said that it can work."""
        life = self._life
        return life is not None and life.greeted and not life.is_over

    @property
    def idle(self) -> bool:
        """Whether nobody waits for an answer of the process."""
        life = self._life
        return life is None or life.since is None

    @property
    def overdue(self) -> bool:
        """Whether the process has been working on one thing for longer than it may."""
        life = self._life
        since = life.since if life else None
        if life is None or since is None or life.is_over:
            return False
        return time.monotonic() - since > (self.limit() if life.greeted else START_S)

    def kill_overdue(self) -> None:
        """Kill the process; what it was asked for raises Died."""
        life = self._life
        if life is not None and not life.is_over:
            life.killed = True
            self.metrics.kills.labels(self.kind).inc()
            limit = self.limit() if life.greeted else START_S
            logger.warning("%s process %d is killed: no answer within %g s", self.kind, life.process.pid, limit)
            life.process.kill()

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a method in the process, and return what it returned.

        Raises:
            Died: the process died before it answered.
            Ended: it cannot be started any more.
            JobFailed: the method raised an exception.
        """
        while True:
            life = self.start()
            with contextlib.suppress(BrokenPipeError, ConnectionError):  # it died before this call
                life.send((name, *arguments))
                break
            self._bury(life)
        try:
            done, content = life.receive()
        except (EOFError, OSError):
            self._bury(life)
            raise Died(f"the {self.kind} process died ({life.ending})", overdue=life.killed) from None
        if not done:
            raise JobFailed(content)
        return content

    def start(self) -> "_Life":
        """Start the process unless it runs, and wait until it can work.

        Raises:
            Ended: it cannot be started, or `end` was called.
        """
        with self._living:
            failed = 0
            while self._life is None or self._life.is_over:
                if self._ended or self.failure is not None:
                    raise Ended(f"the {self.kind} process has ended")
                if self._life is not None:
                    self._bury(self._life)
                    self.metrics.restarts.labels(self.kind).inc()
                    logger.warning(
                        "%s process %d died (%s): starting another one",
                        *(self.kind, self._life.process.pid, self._life.ending),
                    )
                self._life = _Life(self.make, self.arguments)
                if self._ended:
                    self._life.end()
                problem, would_come_again = self._greet(self._life)
                if problem is not None and not self._ended:
                    self._life.end()
                    failed += 1
                    if failed == MOST_FAILED_STARTS or would_come_again:
                        self.failure = DeployError(problem)
                    else:
                        logger.warning("%s", problem)
                        time.sleep(PAUSE_S)
            return self._life

    def _greet(self, life: "_Life") -> tuple[str | None, bool]:
        """Wait for the greeting; return why the process cannot work (None if it can), and whether that is for good."""
        try:
            is_good, hello = life.receive()
        except (EOFError, OSError):
            self._bury(life)
            return f"the {self.kind} process died at its start ({life.ending})", False
        if not is_good:
            return hello, not self._has_run
        life.greeted = self._has_run = True
        self.on_ready(hello)
        return None, False

    def end(self) -> None:
        """Kill the process, and start none any more."""
        self._ended = True
        atexit.unregister(self.end)
        if self._life is not None:
            self._life.end()

    @property
    def died_idle(self) -> bool:
        """Whether there is no process, and nobody is about to start one."""
        life = self._life
        return life is not None and life.is_over and not self._ended and not self._living.locked()

    def _bury(self, life: "_Life") -> None:
        life.over = True
        life.process.join(JOIN_S)


class _Life:
    """One process, from its start to its death.

    Attributes:
        since: when it began what it is doing now (time.monotonic()); None if it is idle.
        greeted: it has said that it can work.
        killed: it took too long.
        over: it has died, or answers no more.
    """

    def __init__(self, make: Callable[..., Any], arguments: tuple) -> None:
        context = process_context("spawn")
        if os.name == "posix":
            resource_tracker.ensure_running()  # otherwise the first spawn starts it, and unblocks signals
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=work, args=(make, arguments, theirs, imported()), daemon=True
        )
        self.greeted = self.killed = self.over = False
        self._sending, self._receiving, self._counting = threading.Lock(), threading.Lock(), threading.Lock()
        self._awaited = 1  # the first message is the greeting
        self._receiving.acquire()
        self.since: float | None = time.monotonic()
        with _one_start, signals_later(), starting(context):
            self.process.start()
        theirs.close()

    @property
    def is_over(self) -> bool:
        return self.over or self.killed or not self.process.is_alive()

    @property
    def ending(self) -> str:
        """How the process ended."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"

    def send(self, message: tuple) -> None:
        """Send a message, and wait until its answer is the next to come; `receive` must follow."""
        with self._sending:
            self._count(1)
            try:
                self.connection.send(message)
            except BaseException:
                self._count(-1)
                raise
            self._receiving.acquire()

    def receive(self) -> tuple[bool, Any]:
        """Whether what was asked for went well; its result, or the text of the error."""
        try:
            return self.connection.recv()
        finally:
            self._count(-1)
            self._receiving.release()

    def end(self) -> None:
        self.over = True
        self.process.kill()
        self.process.join(JOIN_S)

    def _count(self, change: int) -> None:
        with self._counting:
            before, self._awaited = self._awaited, self._awaited + change
            if not self._awaited:
                self.since = None
            elif change < 0 or not before:
                self.since = time.monotonic()


def work(make: Callable[..., Any], arguments: tuple, connection: Connection, extensions: tuple[str, ...]) -> None:
    """The main function of a worker process: answers calls until the parent is gone."""
    # A terminal or a service manager sends these to all processes of the server. The parent needs its workers to
    # finish the requests, and ends them itself.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    try:
        import_extensions(extensions)
        worker = make(*arguments)
        greeting = (True, worker.hello)
    except Exception as error:  # an engine may raise anything
        greeting = (False, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        connection.send(greeting)
        while greeting[0]:
            name, *values = connection.recv()
            try:
                answer = (True, getattr(worker, name)(*values))
            except Exception:
                answer = (False, traceback.format_exc())
            connection.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
