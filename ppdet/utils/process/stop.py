"""Ending on request: on SIGTERM, which schedulers send, or on Ctrl-C (SIGINT)."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEAT_SECONDS = 2.0  # Paddle's launchers send a signal up to three times within about a second: these count as one

_stopped: "Stopped | None" = None
_is_loading = False


class Stopped(SystemExit):
    """The process ends on request. Its exit code is 128 + the signal's number, as shells and schedulers expect it.

    Attributes:
        together: all ranks have agreed to stop, and the run is saved.
    """

    def __init__(self, number: int, *, together: bool = False) -> None:
        super().__init__(128 + number)
        self.exit_code = 128 + number
        self.together = together


def stopped() -> Stopped | None:
    """The exception that a signal has raised in this process, if any; C++ code may have turned it into another one."""
    return _stopped


def raise_stopped(number: int) -> NoReturn:
    """Raise `Stopped` for a signal, and remember it."""
    global _stopped
    _stopped = Stopped(number)
    raise _stopped


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL; SIGRTMIN+1 for a real-time signal, for which Python has no name."""
    names = {known.value: known.name for known in signal.Signals}
    return names.get(number, f"SIGRTMIN+{number - getattr(signal, 'SIGRTMIN', 0)}")


class StopRequests:
    """Handles SIGTERM and SIGINT within a block.

    The first signal is only noted in `received`, so that the current work can be finished. The same signal again ends
    the process at once; so does the first one while there is nothing to finish (`can_wait` is false).

    Args:
        reply: what is printed after the first signal, such as "saving a checkpoint".
    """

    def __init__(self, reply: str) -> None:
        self.reply = reply
        self.received: int | None = None
        self.can_wait = False
        self._received_at = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None and self.can_wait:
            self.received, self._received_at = number, now
            print_signal_line(number, f"{self.reply}; once more ends at once")
        elif self.received in (None, number) and now - self._received_at > REPEAT_SECONDS:
            print_signal_line(number, "ending at once")
            raise_stopped(number)


def print_signal_line(number: int, text: str) -> None:
    """Print a line about a signal to standard error. A handler must not use logging, which it may have interrupted."""
    os.write(2, f"\n{signal.Signals(number).name}: {text}\n".encode())


def end_on_signals(hint: str) -> None:
    """From now on, SIGTERM and SIGINT print a line, which ends with `hint`, and raise `Stopped`.

    If that has no effect, the next signal ends the process.
    """
    received_at = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received_at
        if _stopped is None:
            received_at = time.monotonic()
            print_signal_line(number, f"interrupted{hint}")
            if _is_loading:
                exit_now(128 + number)
            raise_stopped(number)
        elif time.monotonic() - received_at > REPEAT_SECONDS:
            exit_now(_stopped.exit_code)

    def handle_unraisable(what: "sys.UnraisableHookArgs") -> None:
        """Handle `Stopped` where Python cannot raise it, as in a destructor, where it would be printed and ignored."""
        if _stopped is not None and what.exc_value is _stopped:
            exit_now(_stopped.exit_code)
        sys.__unraisablehook__(what)

    sys.unraisablehook = handle_unraisable
    for number in SIGNALS:
        signal.signal(number, handle)


def exit_now(code: int) -> NoReturn:
    """End the process at once, without the clean-up during which another signal would change the exit code."""
    for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
        signal.signal(number, signal.SIG_IGN)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the signal came while a line was written
            stream.flush()
    os._exit(code)


class RestoreHandlers:
    """An import hook that restores the signal handlers before each import, since libraries install their own."""

    def __init__(self) -> None:
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.handlers: dict[signal.Signals, Callable | int] = {
            number: handler for number, handler in handlers.items() if handler is not None
        }

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Called by Python's import; it finds nothing."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import a large library within this block: signal handlers stay as they were, and a signal ends the process.

    Raising an exception would not do, since libraries catch all exceptions of some of their imports.
    """
    global _is_loading
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    restore = RestoreHandlers()
    sys.meta_path.insert(0, restore)
    _is_loading = True
    try:
        yield
    finally:
        _is_loading = False
        sys.meta_path.remove(restore)
        restore.find_spec("")


@contextlib.contextmanager
def signals_later() -> Iterator[None]:
    """Deliver SIGTERM and SIGINT to this thread after the block. Processes started within it begin with both blocked.

    On Windows, which cannot block signals, this does nothing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
