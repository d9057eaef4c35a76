"""Ending on request: by a scheduler that needs the machine, or by Ctrl-C."""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn, Optional

SIGNALS = (signal.SIGTERM, signal.SIGINT)
IMPATIENT_SECONDS = 2.0  # Paddle's launchers send a signal up to three times within about a second

_stopped: Optional["Stopped"] = None
_loading = False


class Stopped(SystemExit):
    """The process ends on request. Its exit code is 128 + the signal's number, as shells and schedulers expect it.

    `together` tells that all ranks have agreed on it, and the run is saved.
    """

    def __init__(self, number: int, *, together: bool = False) -> None:
        super().__init__(128 + number)
        self.together = together


def stopped() -> Stopped | None:
    """What a signal has raised, if one has. C++ code that Python's is called by makes another exception of it."""
    return _stopped


def raise_stopped(number: int) -> NoReturn:
    global _stopped
    _stopped = Stopped(number)
    raise _stopped


class StopRequests:
    """Takes SIGTERM and SIGINT within a block.

    The first one is noted in `received`, so that what is under way can be finished. The same signal once more ends the
    process at once; so does the first, while there is nothing to finish (`can_wait` is false).

    Args:
        reply: what the first one is answered.
    """

    def __init__(self, reply: str) -> None:
        self.reply = reply
        self.received: int | None = None
        self.can_wait = False
        self._at = 0.0
        self._before: dict = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None and self.can_wait:
            self.received, self._at = number, now
            say(number, f"{self.reply}; once more ends at once")
        elif self.received in (None, number) and now - self._at > IMPATIENT_SECONDS:
            say(number, "ending at once")
            raise_stopped(number)


def say(number: int, text: str) -> None:
    # Not through the logger: it may be in the middle of a line.
    os.write(2, f"\n{signal.Signals(number).name}: {text}\n".encode())


def end_on_signals(hint: str) -> None:
    """From now on, SIGTERM and SIGINT raise `Stopped` wherever the process is, and say so with a hint.

    When that has no effect for a while, the next one ends the process.
    """
    at = 0.0

    def take(number: int, frame: FrameType | None) -> None:
        nonlocal at
        if _stopped is None:
            at = time.monotonic()
            say(number, f"interrupted{hint}")
            if _loading:
                end(128 + number)
            raise_stopped(number)
        elif time.monotonic() - at > IMPATIENT_SECONDS:
            end(_stopped.code)

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        """Where Python cannot pass an exception on, as in a destructor, it would print it and go on."""
        if what.exc_value is not None and what.exc_value is _stopped:
            end(_stopped.code)
        sys.__unraisablehook__(what)

    sys.unraisablehook = unraisable
    for number in SIGNALS:
        signal.signal(number, take)


def end(code: int) -> NoReturn:
    """End the process, without what Python and libraries would still do: a signal then would change the exit code."""
    for number in SIGNALS if threading.current_thread() is threading.main_thread() else ():
        signal.signal(number, signal.SIG_IGN)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a signal came in the middle of a line
            stream.flush()
    os._exit(code)


class RestoreHandlers:
    """Before each module is looked for, gives signals the handlers that they had: libraries put their own in place."""

    def __init__(self) -> None:
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.handlers = {number: handler for number, handler in handlers.items() if handler is not None}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """A block that imports a large library. It keeps the handlers of signals, and one that comes ends at once.

    There is nothing to clean up yet, and libraries catch all exceptions of some of their imports.
    """
    global _loading
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    restore = RestoreHandlers()
    sys.meta_path.insert(0, restore)
    _loading = True
    try:
        yield
    finally:
        _loading = False
        sys.meta_path.remove(restore)
        restore.find_spec("")


@contextlib.contextmanager
def signals_later() -> Iterator[None]:
    """SIGTERM and SIGINT that come within the block are delivered to this thread after it.

    A process that is forked within it starts with both of them blocked.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
