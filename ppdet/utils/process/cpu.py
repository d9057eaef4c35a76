"""Processors and memory of the machine."""

import os
from pathlib import Path

# What /proc/cpuinfo says of a processor and what does not change while it runs, on x86-64 and on Arm.
LASTING = {
    *("vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
}


def cpu_count() -> int:
    """Return the number of processors this process may use, which a container or `taskset` may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Return the memory of the machine in GiB; None on systems without sysconf, such as Windows."""
    if not hasattr(os, "sysconf"):
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def processor_description() -> str | None:
    """Return the kinds of the machine's processors with their instruction sets; None where there is no /proc."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    fields = (line.partition(":") for line in text.splitlines())
    found = {(name.strip(), value.strip()) for name, _, value in fields if name.strip() in LASTING}
    return repr(sorted(found)) if found else None
