"""Peak memory, against what the kernel says."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdet.engine.memory import peak_memory


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own figure is read from /proc")
def test_peak_of_the_host():
    block = np.ones(64 << 20, np.uint8)
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text()).group(1)) >> 10
    peak = peak_memory()["host"]
    assert peak >= resident - 1
    more = np.ones((peak - resident + 64) << 20, np.uint8)
    grown = peak_memory()["host"]
    assert peak < grown < peak + 192
    del block, more
    assert peak_memory()["host"] >= grown
