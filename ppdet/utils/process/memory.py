"""The memory of this process."""

import sys


def peak_host_memory() -> int | None:
    """Return the largest memory this process has used so far, in MiB, without GPU memory and worker processes.

    None where the system does not say, as on Windows.
    """
    try:
        import resource
    except ImportError:
        return None
    units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units_per_mib
