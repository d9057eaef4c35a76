"""A device that is not the CPU, for tests: Paddle's type "pretend", of which there are two (custom_device/plugin.cc).

Paddle finds it when it is loaded, so a process of its own is needed; the fixture `pretend` starts one:

    def test_something(pretend, tiny):
        printed = pretend.run("import paddle; paddle.set_device('pretend:1'); ...", tiny)

It has no kernels. Paddle copies to the CPU what a kernel needs, and back: all that this project computes runs there, a
few times slower than on the CPU. In the process, `library()` has what the device has seen.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS / "custom_device" / "plugin.cc"


class Pretend(NamedTuple):
    """folder: of the device's library. environment: of a process that has the device."""

    folder: Path
    environment: dict[str, str]

    def run(self, code: str, *arguments: object, code_of_exit: int = 0) -> str:
        """What a Python process prints that runs `code` with these arguments and has the device."""
        command = [sys.executable, "-c", code, *map(str, arguments)]
        result = subprocess.run(command, cwd=TESTS, env=self.environment, capture_output=True, text=True)
        assert result.returncode == code_of_exit, (result.stdout + result.stderr)[-3000:]
        return result.stdout + result.stderr


def build(folder: Path) -> Pretend:
    """Compile the device into a folder; skip the test where that cannot be done."""
    import paddle

    include = Path(paddle.sysconfig.get_include())
    compiler = shutil.which("g++") or shutil.which("c++")
    if not compiler:
        pytest.skip("no C++ compiler for the device that tests have")
    kernels = paddle.base.core._get_registered_phi_kernels("all")["empty"]
    if not any(key.startswith("(CUSTOM") for key in kernels):
        pytest.skip("this Paddle is built without custom devices, as its GPU builds are")
    if not (include / "paddle/phi/backends/device_ext.h").exists():
        pytest.skip(f"{include} has no paddle/phi/backends/device_ext.h")
    library = folder / "libpretend.so"
    subprocess.run(
        [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", f"-I{include}", str(SOURCE), "-o", str(library)], check=True
    )
    environment = {
        **os.environ,
        "CUSTOM_DEVICE_ROOT": str(folder),
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "GLOG_minloglevel": "2",
        # Views of memory need a kernel that only the device itself could have.
        "FLAGS_use_stride_kernel": "0",
    }
    return Pretend(folder, environment)


def library() -> ctypes.CDLL:
    """The device's library in this process.

    pretend_current_device() is that of the calling thread, at first 0; pretend_touched() has a bit for each device
    that was the current one of a thread asking for memory or a copy, pretend_copies_to_host() the number of copies
    (those for kernels are among them), both since they were last called.
    """
    loaded = ctypes.CDLL(os.path.join(os.environ["CUSTOM_DEVICE_ROOT"], "libpretend.so"))
    loaded.pretend_touched.restype = ctypes.c_ulong
    loaded.pretend_copies_to_host.restype = ctypes.c_long
    return loaded
