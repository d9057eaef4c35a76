"""The machine, as far as a configuration depends on it."""

import os
from typing import NamedTuple

from ppdet.utils import device
from ppdet.utils.process.cpu import cpu_count, memory_gib


class Machine(NamedTuple):
    """The machine on which training will run.

    Attributes:
        kind: the type of device that computes: "cpu", "gpu", …
        devices: how many of them there are; 1 for the CPU.
        device_memory: memory of one of them in GiB; None if unknown, and for the CPU.
        cores: processors that this process may use.
        memory: memory of the machine in GiB; None if unknown.
        halves: whether mixed precision makes training faster.
        load: processes that want to compute, on the average of the last minute; None if unknown.
    """

    kind: str
    devices: int
    device_memory: float | None
    cores: int
    memory: float | None
    halves: bool
    load: float | None = None

    @property
    def is_cpu(self) -> bool:
        """Whether the processors compute."""
        return self.kind == "cpu"

    @property
    def launched(self) -> int:
        """The number of devices on which the command that `ppdet init` proposes trains."""
        return self.devices if self.kind == "gpu" else 1

    @property
    def is_busy(self) -> bool:
        """Whether other programs use the processors, so that a timed step takes longer than it would alone."""
        return self.load is not None and self.load > max(1.0, self.cores / 2)

    def text(self) -> str:
        """The machine in one line."""
        memory = f", {self.memory:.0f} GiB of memory" if self.memory else ""
        own = f" of {self.device_memory:.0f} GiB" if self.device_memory else ""
        computes = "no GPU" if self.is_cpu else f"{self.devices} {self.kind.upper()}{own}"
        return f"{self.cores} processor cores{memory}, {computes}"


def look_at_machine() -> Machine:
    """Describe this machine and Paddle's current device."""
    from ppdet.modeling import cpu

    kind = device.device_type()
    return Machine(
        kind=kind,
        devices=max(1, device.count(kind)) if kind != "cpu" else 1,
        device_memory=device.total_memory_gib(),
        cores=cpu_count(),
        memory=memory_gib(),
        halves=cpu.has_bfloat16() if kind == "cpu" else True,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )
