"""Peak memory of a training process."""

import sys

from ppdet.utils import device


def peak_memory() -> dict[str, int]:
    """Return the peak memory of this process so far, in MiB.

    "host" does not count worker processes and is missing on Windows; "device" is what tensors took on a GPU or a
    similar device, and is missing on the CPU.
    """
    peak = {}
    if sys.platform != "win32":
        import resource

        units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units_per_mib
    on_device = device.peak_memory()
    if on_device is not None:
        peak["device"] = on_device >> 20
    return peak
