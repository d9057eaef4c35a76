"""Acting before an uncaught C++ exception ends the process.

When a backward pass averages gradients over ranks, exceptions of gloo reach C code of Python, which cannot be unwound.
C++ then calls std::terminate, which ends the process by SIGABRT, without any Python exception.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

HANDLER = ctypes.CFUNCTYPE(None)


@contextlib.contextmanager
def before_terminate(act: Callable[[], None]) -> Iterator[None]:
    """Within the block, call `act` before an uncaught C++ exception ends this process.

    If `act` returns, the process ends as it would have without it. Processes that are forked within the block do not
    call it. Only GNU's C++ library is supported; with another one `act` is never called.
    """
    try:
        set_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
    except (OSError, AttributeError):
        yield
        return
    set_terminate.argtypes, set_terminate.restype = [HANDLER], HANDLER
    process = os.getpid()

    def handle() -> None:
        try:
            if os.getpid() == process:
                act()
        finally:
            earlier_handler()

    handler = HANDLER(handle)
    earlier_handler = set_terminate(handler)
    try:
        yield
    finally:
        set_terminate(earlier_handler)
