"""What the machine has: nothing here fails by being absent, but Paddle itself has to work on the device."""

import os
import platform
import shutil
import subprocess

import numpy as np

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.utils.process.cpu import cpu_count

QUERY = "name,driver_version,memory.total,memory.used,utilization.gpu,power.limit"
# Sums of 64 products of normal numbers: float32 errs by less than 1e-5, TF32, whose factors have 10 bits, by some 1e-3.
FLOAT32, TF32 = 1e-5, 2e-2


@check(
    "environment/paddle",
    title="Paddle's build, and a product of matrices and a convolution on the device",
    advice="""Paddle cannot compute on this device at all: nothing else can work. Compare the CUDA version that Paddle
    was built for with the driver's (nvidia-smi shows the newest that it takes), install the paddlepaddle-gpu of that
    CUDA from Paddle's own site, and run `python -c "import paddle; paddle.utils.run_check()"`.""",
    limit=120,
    seconds=5,
)
def paddle_build(context: Context) -> Outcome:
    import paddle

    from ppdet.utils import device as devices

    errors = errors_of_products(context.seed)
    numbers = {
        "paddle": paddle.__version__,
        "paddle_commit": paddle.version.commit,
        "cuda": paddle.version.cuda(),
        "cudnn": paddle.version.cudnn(),
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
            raise Failed(f"a {name} on {numbers['device']} is off by {error:.1e}", **numbers)
    # A build without CUDA says so by the text "False".
    with_cuda = str(numbers["cuda"]) != "False"
    build = f"CUDA {numbers['cuda']}, cuDNN {numbers['cudnn']}" if with_cuda else "no CUDA"
    tf32 = [name for name, error in errors.items() if error > FLOAT32]
    rounding = f"TF32 in {' and '.join(tf32)}" if tf32 else "no TF32"
    mixed = ", ".join(context.facts.amp) or "no mixed precision"
    return Outcome(f"paddle {paddle.__version__}, {build}, {mixed}, {rounding}", numbers)


@check(
    "environment/machine",
    title="cards, driver and memory as nvidia-smi has them, processors and memory of the host",
    advice="""The machine could not be asked what it has. Nothing else depends on it: attach what `nvidia-smi` and `free
    -g` print to the report.""",
    limit=120,
    seconds=1,
)
def machine(context: Context) -> Outcome:
    numbers = {
        "processors": cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": platform.machine(),
        "memory_gib": memory_gib(),
        "shared_memory_gib": round(shutil.disk_usage("/dev/shm").total / 2**30, 1)
        if os.path.isdir("/dev/shm")
        else None,
        "environment": {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)},
    }
    cards = [line.split(", ") for line in nvidia_smi(f"--query-gpu={QUERY}", "--format=csv,noheader").splitlines()]
    numbers["cards"] = [dict(zip(QUERY.split(","), card)) for card in cards]
    if len(cards) > 1:
        numbers["topology"] = nvidia_smi("topo", "-m")
    memory = "memory unknown" if numbers["memory_gib"] is None else f"{numbers['memory_gib']:.0f} GiB"
    host = f"{numbers['processors']} processors, {memory}"
    if not cards:
        return Outcome(f"{host}; no nvidia-smi", numbers)
    names = sorted({card[0] for card in cards})
    return Outcome(f"{len(cards)} x {', '.join(names)}, driver {cards[0][1]}, {cards[0][2]}; {host}", numbers)


VARIABLES = ("CUDA_", "NVIDIA_", "NCCL_", "FLAGS_", "OMP_", "MKL_", "LD_LIBRARY_PATH", "PADDLE_", "XPU_", "ASCEND_")


def memory_gib() -> float | None:
    """Of the host; None where the system does not say: Windows has no sysconf."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def nvidia_smi(*arguments: str) -> str:
    """What it prints; nothing where it is not installed, or refuses."""
    if not shutil.which("nvidia-smi"):
        return ""
    found = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else ""


@check(
    "operators/tf32",
    title="whether TF32 is off in this group, whose limits are below its rounding",
    advice="""The device rounds float32 to TF32 although NVIDIA_TF32_OVERRIDE=0 is set for these checks, or errs in
    another way: differences of up to 1e-2 in the other checks of operators come from it, and say nothing about them.
    Report it with the driver's version.""",
    seconds=1,
)
def tf32_is_off(context: Context) -> Outcome:
    errors = errors_of_products(context.seed)
    text = ", ".join(f"{name}: {error:.1e}" for name, error in errors.items())
    if not max(errors.values()) <= FLOAT32:
        raise Failed(f"{text}; {FLOAT32:.0e} is allowed", errors=errors)
    return Outcome(f"{text}; {FLOAT32:.0e} is allowed", {"errors": errors})


def errors_of_products(seed: int) -> dict[str, float]:
    """The largest errors on the current device of sums of 64 products, relative to their size: by kind of operator."""
    import paddle
    import paddle.nn.functional as F

    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, 256, 64)).astype(np.float32)
    exact = left.astype(np.float64) @ right.T.astype(np.float64)
    tensors = paddle.to_tensor(left), paddle.to_tensor(right)
    # As a convolution of one location: 64 channels to 256, over an image of 16 x 16.
    image = tensors[0].T.reshape([1, 64, 16, 16])
    found = {
        "matrix product": paddle.matmul(tensors[0], tensors[1], transpose_y=True).numpy(),
        "convolution": F.conv2d(image, tensors[1].reshape([256, 64, 1, 1])).numpy().reshape(256, 256).T,
    }
    return {name: float(np.abs(value - exact).max() / np.abs(exact).max()) for name, value in found.items()}
