"""How much memory a run takes."""

import sys

from ppdet.utils import device

try:
    import resource
except ImportError:  # Windows does not say
    resource = None


def peak_memory() -> dict[str, int]:
    """The most memory this process has had so far, in MiB: "host" (its worker processes not counted), and on a
    GPU or another such device also "device" (what tensors took there)."""
    peak = {}
    if resource is not None:
        units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units_per_mib
    on_device = device.peak_memory()
    if on_device is not None:
        peak["device"] = on_device >> 20
    return peak
