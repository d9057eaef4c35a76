"""Processes that work for the server. Each can be killed at any time, and another one takes its place.

multiprocessing's own pools, and Pebble's, do not do: their workers share queues, so that one which is killed at a bad
moment takes the others with it. Here each process has a pipe of its own.
"""

import atexit
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ppdet.deploy.serving.process_life import Life
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

START_S = 900.0  # longest time for a process to load its model and run it once
MOST_FAILED_STARTS = 3  # in a row
PAUSE_S = 1.0  # after a start that failed; twice as long after each further one
LONGEST_PAUSE_S = 30.0


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
    process goes on without a pause. If the process dies with the first one, the second one goes to the next process.

    Args:
        kind: what metrics and log call it.
        make: a class, or a function of a module. In the process, make(*arguments) returns the object whose methods
            `call` calls. Its attribute `hello` is sent to the parent first.
        arguments: picklable arguments of `make`.
        limit: returns how many seconds a call may take at most.
        on_ready: is called with `hello` each time that a process has started.
        environment: variables of the process that differ from this one's.

    Attributes:
        alike: the processes of this kind.
        has_run: it has said once that it can work.
        failure: why the process cannot be started; the server ends with it. None if it can, and if one of its kind has
            run: then there is another try again and again.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[..., Any],
        arguments: tuple,
        metrics: Metrics,
        limit: Callable[[], float],
        on_ready: Callable[[Any], None] = lambda hello: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.make = make
        self.arguments = arguments
        self.metrics = metrics
        self.limit = limit
        self.on_ready = on_ready
        self.environment = environment or {}
        self.alike: Sequence[WorkerProcess] = (self,)
        self.has_run = False
        self.failure: DeployError | None = None
        self._life: Life | None = None
        self._living = threading.Lock()
        self._ended = threading.Event()
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
            try:
                life.send((name, *arguments))
                break
            except OSError:  # it died before it began with this: another one does it
                life.bury()
        try:
            done, content = life.receive()
        except (EOFError, OSError):
            life.bury()
            raise Died(f"the {self.kind} process died ({life.ending})", overdue=life.killed) from None
        if not done:
            raise JobFailed(content)
        return content

    def start(self) -> Life:
        """Start the process unless it runs, and wait until it can work.

        Raises:
            Ended: it cannot be started, or `end` was called.
        """
        with self._living:
            failed = 0
            while self._life is None or self._life.is_over:
                if self._ended.is_set() or self.failure is not None:
                    raise Ended(f"the {self.kind} process has ended")
                if self._life is not None:
                    self._life.bury()
                    self.metrics.restarts.labels(self.kind).inc()
                    logger.warning(
                        "%s process %d died (%s): starting another one",
                        *(self.kind, self._life.process.pid, self._life.ending),
                    )
                self._life = Life(self.make, self.arguments, self.environment)
                if self._ended.is_set():
                    self._life.kill()
                problem, would_come_again = self._greet(self._life)
                if problem is not None and not self._ended.is_set():
                    self._life.kill()
                    failed += 1
                    has_run = any(process.has_run for process in self.alike)
                    if not has_run and (failed == MOST_FAILED_STARTS or would_come_again):
                        self.failure = DeployError(problem)
                    else:
                        pause_s = min(PAUSE_S * 2 ** (min(failed, 10) - 1), LONGEST_PAUSE_S)
                        logger.warning("%s: trying again in %g s", problem, pause_s)
                        self._ended.wait(pause_s)
            return self._life

    def _greet(self, life: Life) -> tuple[str | None, bool]:
        """Wait for the greeting; return why the process cannot work (None if it can), and whether it says so itself."""
        try:
            is_good, hello = life.receive()
        except (EOFError, OSError):
            life.bury()
            return f"the {self.kind} process died at its start ({life.ending})", False
        if not is_good:
            return hello, True
        life.greeted = self.has_run = True
        self.on_ready(hello)
        return None, False

    def end(self) -> None:
        """Kill the process, and start none any more."""
        self._ended.set()
        atexit.unregister(self.end)
        if self._life is not None:
            self._life.kill()

    @property
    def died_idle(self) -> bool:
        """Whether there is no process, and nobody is about to start one."""
        life = self._life
        can_start = not self._ended.is_set() and self.failure is None
        return life is not None and life.is_over and can_start and not self._living.locked()
