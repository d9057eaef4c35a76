"""How much memory a run takes."""

import sys

import paddle

try:
    import resource
except ImportError:  # Windows does not say
    resource = None


def peak_memory() -> dict[str, int]:
    """The most memory this process has had so far, in MiB: "host" (its worker processes not counted), and on a GPU
    also "device" (what tensors took there)."""
    peak = {}
    if resource is not None:
        units_per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10
        peak["host"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // units_per_mib
    if paddle.get_device().startswith("gpu"):
        peak["device"] = paddle.device.cuda.max_memory_allocated() >> 20
    return peak
