"""Exceptions of C++ that nobody takes.

Where a backward pass averages gradients over ranks, Paddle lets exceptions of gloo run into C code of Python, which
cannot be unwound. C++ then calls std::terminate, and that ends the process by SIGABRT in the middle of everything.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator

HANDLER = ctypes.CFUNCTYPE(None)


@contextlib.contextmanager
def before_terminate(act: Callable[[], None]) -> Iterator[None]:
    """Within the block, have this process call `act` before an exception of C++ that nobody takes ends it.

    If `act` returns, the process ends as it would have. Processes that are forked within the block do not call it. With
    another C++ library than GNU's nothing changes.
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
            before()

    handler = HANDLER(handle)
    before = set_terminate(handler)
    try:
        yield
    finally:
        set_terminate(before)
