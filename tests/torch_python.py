"""A Python that has PyTorch, which the project's own need not have. PyTorch runs in processes of its own, beside no
Paddle.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ASKED = os.environ.get("PPDET_TORCH_PYTHON")
PYTHON = ASKED or sys.executable
# Where one was asked for, its absence is a failure.
needs_torch = pytest.mark.skipif(
    not ASKED and importlib.util.find_spec("torch") is None,
    reason="PyTorch is not installed (make parity; or PPDET_TORCH_PYTHON names a Python that has it)",
)


def run_torch(*arguments: object) -> None:
    """Run a Python script, with its arguments, or `-c` and a program, where PyTorch is."""
    assert Path(PYTHON).is_file(), f"PPDET_TORCH_PYTHON={PYTHON}: no such file"
    result = subprocess.run([PYTHON, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
