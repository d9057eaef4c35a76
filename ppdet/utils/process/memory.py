"""The peak memory of this process, on the host and on the device."""

import sys

from ppdet.utils import device


def peak_host_memory() -> int | None:
    """Return the largest memory this process has used so far, in MiB, without GPU memory and worker processes.

    None if the system does not say, as on Windows.
    """
    try:
        import resource
    except ImportError:
        return None
    units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units_per_mib


def peak_memory() -> dict[str, int]:
    """Return the peak memory of this process so far, in MiB.

    "host" does not count worker processes and is missing on Windows; "device" is what tensors took on a GPU or a
    similar device, and is missing on the CPU.
    """
    peak = {}
    on_host = peak_host_memory()
    if on_host is not None:
        peak["host"] = on_host
    on_device = device.peak_memory()
    if on_device is not None:
        peak["device"] = on_device >> 20
    return peak
