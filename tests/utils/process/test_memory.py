"""Peak memory, against what the kernel says."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdet.utils import device
from ppdet.utils.process.memory import peak_memory


def status(field):
    """A memory figure of this process in MiB. The kernel may reclaim memory at any time, for example of libraries."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) >> 10


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own figure is read from /proc")
def test_peak_of_the_host():
    peak = peak_memory()["host"]
    assert abs(peak - status("VmHWM")) <= 2
    blocks = []
    while status("VmRSS") < peak + 64:
        blocks.append(np.ones(64 << 20, np.uint8))
    grown = peak_memory()["host"]
    assert grown >= peak + 62 and abs(grown - status("VmHWM")) <= 2
    blocks.clear()
    assert peak_memory()["host"] >= grown


def test_peak_of_the_device(monkeypatch):
    """In MiB, where the device says."""
    assert "device" not in peak_memory()
    monkeypatch.setattr(device, "peak_memory", lambda: (5 << 20) + 1)
    assert peak_memory()["device"] == 5
