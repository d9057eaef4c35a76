"""One life of a worker process: the parent's end of its pipe, and what the process itself does."""

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
from ppdet.utils.errors import UserError
from ppdet.utils.process.start import process_context, starting
from ppdet.utils.process.stop import SIGNALS, signals_later

JOIN_S = 5.0  # a killed process is gone long before
OOM_SCORE = "500"  # Linux, when memory is short, kills a process that can be started again rather than the server
# `starting` replaces the main module for a moment, which two threads must not do at once.
_one_start = threading.Lock()


class Life:
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
        """Send a message, and wait until its answer is the next to come; `receive` must follow.

        Raises:
            OSError: the process died before it began with this message.
        """
        with self._sending:
            self._count(1)
            try:
                self.connection.send(message)
                self._receiving.acquire()
                if self.over:  # it died with the message before
                    self._receiving.release()
                    raise BrokenPipeError
            except BaseException:
                self._count(-1)
                raise

    def receive(self) -> tuple[bool, Any]:
        """Whether what was asked for went well; its result, or the text of the error.

        Raises:
            OSError or EOFError: the process died.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.over = True
            raise
        finally:
            self._count(-1)
            self._receiving.release()

    def kill(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.process.kill()
        self.bury()

    def bury(self) -> None:
        """Wait until the process is gone."""
        self.over = True
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
