"""The number of processors that this process may use."""

import os


def cpu_count() -> int:
    """Return the number of processors this process may use, which a container or `taskset` may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
