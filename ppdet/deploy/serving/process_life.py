"""One life of a worker process: the parent's end of its pipe, and what the process itself does."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ppdet.core.extensions import import_extensions, imported
from ppdet.deploy.serving.linux_calls import die_with_thread_of_parent, end_unless_child_of
from ppdet.utils.errors import UserError
from ppdet.utils.process.start import process_context, starting
from ppdet.utils.process.stop import SIGNALS, signal_name, signals_later

JOIN_S = 5.0  # a killed process is gone long before
OOM_SCORE = "500"  # Linux, when memory is short, kills a process that can be started again rather than the server
# One thread starts all processes, and lives as long as this process: when it ends, Linux kills them. Besides,
# `starting` replaces the main module for a moment, which two threads must not do at once.
_starter = ThreadPoolExecutor(1, "starter")


class Life:
    """One process, from its start to its death.

    Args:
        make, arguments: see `WorkerProcess`.
        environment: variables that differ from this process's.

    Attributes:
        since: when it began what it is doing now (time.monotonic()); None if it is idle.
        greeted: it has said that it can work.
        killed: it took too long.
        over: it has died, or answers no more.
    """

    def __init__(self, make: Callable[..., Any], arguments: tuple, environment: Mapping[str, str]) -> None:
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
        _starter.submit(self._start, context, environment).result()
        theirs.close()

    def _start(self, context: BaseContext, environment: Mapping[str, str]) -> None:
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            with signals_later(), starting(context):
                self.process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    @property
    def is_over(self) -> bool:
        return self.over or self.killed or not self.process.is_alive()

    @property
    def ending(self) -> str:
        """How the process ended."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit code {code}"
        return f"signal {signal_name(-code)}"

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
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        # The thread needs Python's lock, which a library may hold for ever. Only Linux has another way.
        die_with_thread_of_parent()
        end_unless_child_of(parent.pid)
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
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


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
