"""What there is to know about the processor and its processes."""

import multiprocessing
import os


def cpu_count() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """Whether this system can copy a running process. Windows cannot."""
    return "fork" in multiprocessing.get_all_start_methods()
