"""Peak memory of a training process."""

from ppdet.utils import device
from ppdet.utils.process.memory import peak_host_memory


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
