"""Starting worker processes: forked ones finalize nothing they inherit, spawned ones do not rerun the main script."""

import contextlib
import gc
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Literal

from ppdet.utils.errors import UserError
from ppdet.utils.process.stop import SIGNALS, signal_name

CRASH_SIGNALS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")  # Paddle prints its C++ stack for these
StartMethod = Literal["auto", "fork", "spawn"]


def process_context(start: StartMethod = "auto") -> BaseContext:
    """Return the `multiprocessing` context for a start method.

    Args:
        start: "fork" copies this process, which takes milliseconds; "spawn" starts a new Python, which takes about a
            second and receives its data as pickles. "auto" is fork on Linux and spawn elsewhere: Windows cannot fork,
            and the system libraries of macOS may crash in forked processes.

    Raises:
        UserError: the system does not have this start method.
    """
    available = multiprocessing.get_all_start_methods()
    if start == "auto":
        start = "fork" if sys.platform == "linux" and "fork" in available else "spawn"
    if start not in available:
        raise UserError(f"worker_start is {start}, which this system does not have: set it to auto or spawn")
    return multiprocessing.get_context(start)


@contextlib.contextmanager
def starting(context: BaseContext) -> Iterator[None]:
    """Start processes of `context` within this block."""
    with objects_stay_here() if context.get_start_method() == "fork" else hidden_main():
        yield


@contextlib.contextmanager
def objects_stay_here() -> Iterator[None]:
    """Processes that are forked within the block never finalize, by garbage collection, the objects they inherit.

    Reference cycles that wait for the garbage collector may contain tensors on a GPU. A forked process cannot use its
    parent's GPU, and the tensors' destructors, which free GPU memory, would crash it. `gc.freeze` moves all living
    objects to the permanent generation, which is never collected; the parent undoes this after the block. Forked
    processes of `multiprocessing` exit by os._exit, and so run no destructors at their end either.
    """
    was_frozen = gc.get_freeze_count() > 0  # by the caller, who then keeps it so
    gc.freeze()
    try:
        yield
    finally:
        if not was_frozen:
            gc.unfreeze()


@contextlib.contextmanager
def hidden_main() -> Iterator[None]:
    """Processes that are spawned within the block do not run the main script again.

    `multiprocessing` otherwise imports it in every new process, and a script without `if __name__ == "__main__":` would
    train there again. The price: objects of classes that the script itself defines cannot be pickled within the block.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def parent_handles_signals() -> None:
    """Ignore SIGTERM and SIGINT in a worker process, and let the system end it when it crashes.

    A terminal, launcher or scheduler sends these signals to every process of a job. They are meant for the parent,
    which ends its workers itself. Paddle, where it is imported, prints its C++ stack when a process crashes.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for name in CRASH_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def cause_of_death(process: BaseProcess) -> tuple[str, bool]:
    """Return "signal SIGKILL" or "exit code 1" of a process that has ended, and whether memory may have been short.

    The system kills with SIGKILL when memory is short, and with SIGBUS when shared memory is.
    """
    code = process.exitcode
    if code is None or code >= 0:
        return f"exit code {code}", False
    name = signal_name(-code)
    return f"signal {name}", name in ("SIGKILL", "SIGBUS")
