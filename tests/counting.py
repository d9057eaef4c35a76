"""Kernels that a piece of code starts, counted as benchmarks/kernels.py does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from kernels import SEVERAL, Kernels, part

__all__ = ["SEVERAL", "Kernels", "part"]
