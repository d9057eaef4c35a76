"""System calls of Linux that Python does not offer. Elsewhere they do nothing."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2


def die_with_thread_of_parent() -> None:
    """Have the system kill this process when the thread that started it ends, even if this process is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def free_pages(descriptor: int, start: int, size: int) -> None:
    """Give the memory of a part of a file without a name back to the system; it then reads as zeros.

    Other threads can run meanwhile. Where this is not possible, the memory is used again by what is written there.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        fallocate = libc.fallocate64 if hasattr(libc, "fallocate64") else libc.fallocate
        fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        fallocate(descriptor, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, start, size)


def end_unless_child_of(parent: int) -> None:
    """End this process at once if `parent` has ended already."""
    if sys.platform == "linux" and os.getppid() != parent:
        os._exit(1)
