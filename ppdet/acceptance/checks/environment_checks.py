"""Checks of Paddle's build and the machine, and a check that operators do not round to TF32.

A missing part of the machine is no failure, but Paddle has to compute on the device.
"""

import os
import platform
import shutil
import subprocess
from typing import Any

import numpy as np

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome, outcome_if
from ppdet.utils.process.cpu import cpu_count, memory_gib

QUERY = "name,driver_version,memory.total,memory.used,utilization.gpu,power.limit"  # of nvidia-smi
# Relative errors of sums of 64 products of normal random numbers: below 1e-5 in float32, about 1e-3 in TF32, whose
# factors have 10 bits of mantissa.
FLOAT32, TF32 = 1e-5, 2e-2
# Environment variables with these prefixes are in the report.
VARIABLES = ("CUDA_", "NVIDIA_", "NCCL_", "FLAGS_", "OMP_", "MKL_", "LD_LIBRARY_PATH", "PADDLE_", "XPU_", "ASCEND_")


@check("environment/paddle", seconds=5, limit=120)
def paddle_build(context: Context) -> Outcome:
    """Paddle's build; a matrix product and a convolution on the device

    Paddle cannot compute on this device, so nothing else can work. Compare the CUDA version of Paddle's build with
    the newest version that the driver supports (nvidia-smi shows it), install the paddlepaddle-gpu for that CUDA
    version from Paddle's site, and run `python -c "import paddle; paddle.utils.run_check()"`.
    """
    import paddle

    from ppdet.utils import device as devices

    errors = errors_of_products(context.seed)
    cuda, cudnn = paddle.version.cuda(), paddle.version.cudnn()
    numbers = {
        "paddle": paddle.__version__,
        "paddle_commit": paddle.version.commit,
        "cuda": cuda,
        "cudnn": cudnn,
        "nccl": paddle.version.nccl() if hasattr(paddle.version, "nccl") else None,
        "device": devices.name(),
        "cards": context.facts.cards,
        "capability": context.facts.capability,
        "mixed_precision": context.facts.amp,
        "packages": context.facts.packages,
        "errors": errors,
    }
    for name, error in errors.items():
        if not error < TF32:
            raise Failed(f"a {name} on {devices.name()} is off by {error:.1e}", **numbers)
    # In a build without CUDA, the version is "False".
    build = f"CUDA {cuda}, cuDNN {cudnn}" if str(cuda) != "False" else "no CUDA"
    tf32 = [name for name, error in errors.items() if error > FLOAT32]
    rounding = f"TF32 in {' and '.join(tf32)}" if tf32 else "no TF32"
    mixed = ", ".join(context.facts.amp) or "no mixed precision"
    return Outcome(f"paddle {paddle.__version__}, {build}, {mixed}, {rounding}", numbers)


@check("environment/machine", seconds=1)
def machine(context: Context) -> Outcome:
    """Cards, driver and memory according to nvidia-smi; processors and memory of the host

    The kit could not find out what the machine has. No other check depends on it. Please attach the output of
    `nvidia-smi` and `free -g` to the report.
    """
    query = nvidia_smi(f"--query-gpu={QUERY}", "--format=csv,noheader")
    cards = [line.split(", ") for line in query.splitlines()]
    memory = memory_gib()
    numbers: dict[str, Any] = {
        "processors": cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": platform.machine(),
        "memory_gib": memory,
        "shared_memory_gib": shared_memory_gib(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)},
        "cards": [dict(zip(QUERY.split(","), card)) for card in cards],
        "topology": nvidia_smi("topo", "-m"),
    }
    host = f"{cpu_count()} processors, {'memory unknown' if memory is None else f'{memory:.0f} GiB'}"
    if not cards:
        return Outcome(f"{host}; no nvidia-smi", numbers)
    names = sorted({card[0] for card in cards})
    return Outcome(f"{len(cards)} x {', '.join(names)}, driver {cards[0][1]}, {cards[0][2]}; {host}", numbers)


def shared_memory_gib() -> float | None:
    """Return the size of the shared memory of Linux; None elsewhere."""
    folder = "/dev/shm"  # nosec B108  # only its size is asked for
    return shutil.disk_usage(folder).total / 2**30 if os.path.isdir(folder) else None


def nvidia_smi(*arguments: str) -> str:
    """Return the output of nvidia-smi, or "" if it is not installed or fails."""
    if not shutil.which("nvidia-smi"):
        return ""
    # The program is looked for where the user's PATH says; arguments are constants of this module.
    process = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True)  # nosec B603, B607
    return process.stdout.strip() if process.returncode == 0 else ""


@check("operators/tf32", seconds=1)
def tf32_is_off(context: Context) -> Outcome:
    """TF32 is off in this group, whose limits are below the rounding of TF32

    The device rounds float32 to TF32 although NVIDIA_TF32_OVERRIDE=0 is set for these checks, or computes wrongly
    in another way. Differences of up to 1e-2 in the other checks of operators then come from it, and prove nothing
    about these operators. Please send the report; it has the driver's version.
    """
    errors = errors_of_products(context.seed)
    text = ", ".join(f"{name}: {error:.1e}" for name, error in errors.items()) + f" (limit {FLOAT32:.0e})"
    return outcome_if(max(errors.values()) <= FLOAT32, text, {"errors": errors})


def errors_of_products(seed: int) -> dict[str, float]:
    """Return the largest relative errors of sums of 64 products on the current device, by the kind of operator."""
    import paddle
    import paddle.nn.functional as F

    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, 256, 64)).astype(np.float32)
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    tensors = paddle.to_tensor(left), paddle.to_tensor(right)
    # The same product as a 1x1 convolution from 64 to 256 channels, over an image of 16 x 16 pixels.
    image = tensors[0].T.reshape([1, 64, 16, 16])
    results = {
        "matrix product": paddle.matmul(tensors[0], tensors[1], transpose_y=True).numpy(),
        "convolution": F.conv2d(image, tensors[1].reshape([256, 64, 1, 1])).numpy().reshape(256, 256).T,
    }
    return {name: float(np.abs(value - exact).max() / np.abs(exact).max()) for name, value in results.items()}
