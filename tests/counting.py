"""Kernels that a piece of code starts, counted as benchmarks/kernels.py does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import kernels
import pytest
from kernels import SEVERAL, part

from ppdet.utils import device

__all__ = ["SEVERAL", "Kernels", "part"]


class Kernels(kernels.Kernels):
    """As in the benchmark; the test is skipped where Paddle's profiler cannot record."""

    def __enter__(self) -> "Kernels":
        if not device.can_be_profiled():
            pytest.skip("the profiler of Paddle's build for GPUs needs a GPU's driver")
        return super().__enter__()
