"""Facts about the device that Paddle computes on.

Only this module asks Paddle about devices, so that tests can replace the answers.
"""

import sys
import warnings
from collections.abc import Callable

# What to install for a type of device. Plugins come from github.com/PaddlePaddle/PaddleCustomDevice.
BUILDS = {"gpu": "paddlepaddle-gpu, the build for your CUDA", "xpu": "paddlepaddle-xpu"}


def what_to_install(kind: str) -> str:
    """Return the advice for a type of device that this Paddle does not support: "install …"."""
    return f"install {BUILDS.get(kind) or f'the plugin of PaddleCustomDevice for {kind}'} (docs/GPU.md)"


def name() -> str:
    """Return the current device as Paddle spells it: "cpu", "gpu:0", "xpu:1", …"""
    import paddle

    return paddle.get_device()


def device_type() -> str:
    """Return the type of the current device: "cpu", "gpu", "xpu", or the name of a custom device ("npu", "mlu", …)."""
    return name().partition(":")[0]


def number() -> int:
    """Return the index of the current device among the devices of its type, from 0."""
    return int(name().partition(":")[2] or 0)


def is_cpu() -> bool:
    """Whether the current device is the CPU."""
    return device_type() == "cpu"


def runs_behind_host() -> bool:
    """Whether the device works asynchronously, so that reading a value waits for it: everything but the CPU does."""
    return not is_cpu()


def supported_types() -> list[str]:
    """Return the types of device that this Paddle supports, by its build or by plugins, whether or not one exists."""
    import paddle

    built = {"gpu": paddle.is_compiled_with_cuda(), "xpu": paddle.is_compiled_with_xpu()}
    return ["cpu", *(kind for kind, is_built in built.items() if is_built), *custom_kinds()]


def custom_kinds() -> list[str]:
    """Return the types of device for which Paddle has found a plugin."""
    import paddle

    return list(paddle.device.get_all_custom_device_type() or ())


def count(kind: str) -> int:
    """Return how many devices of a type Paddle can use here; 0 if the driver is missing."""
    from paddle.base import core

    if kind == "cpu":
        return 1
    try:
        if kind in custom_kinds():
            return core.get_custom_device_count(kind)
        function = {"gpu": "get_cuda_device_count", "xpu": "get_xpu_device_count"}.get(kind, "")
        return getattr(core, function)() if hasattr(core, function) else 0
    except (RuntimeError, OSError):  # the driver is missing
        return 0


def capability() -> tuple[int, int] | None:
    """Return the compute capability of the current NVIDIA GPU, such as (8, 0); None on other devices."""
    import paddle

    if device_type() != "gpu" or paddle.is_compiled_with_rocm():
        return None
    try:
        return paddle.device.cuda.get_device_capability()
    except (ValueError, RuntimeError, OSError):  # a build without CUDA, or no driver
        return None


def casts_to(dtype: str) -> bool:
    """Whether paddle.amp.auto_cast casts to "float16" or "bfloat16" on the current device.

    Where Paddle thinks that the device lacks the type, auto_cast only warns and does nothing.
    """
    import paddle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with paddle.amp.auto_cast(dtype=dtype, level="O1"):
            return paddle.base.framework._dygraph_tracer()._amp_level == paddle.base.core.AmpLevel.O1


def has_kernel(operator: str) -> bool:
    """Whether Paddle has a kernel of an operator for the current device itself, without falling back to the CPU."""
    from paddle.base import core

    keys = getattr(core, "_get_registered_phi_kernels")("all").get(operator, ())  # noqa: B009, mypy misses it in core
    # CUSTOM kernels are Paddle's own for all plugin devices.
    backends = {device_type(), device_type().upper(), "CUSTOM" if device_type() in custom_kinds() else ""}
    return any(key[1:].partition(",")[0] in backends for key in keys)


def can_be_profiled() -> bool:
    """Whether Paddle's profiler can record. In a build for GPUs it fails if no GPU can be used."""
    return "gpu" not in supported_types() or count("gpu") > 0


def synchronize() -> None:
    """Wait until the device has finished all its work."""
    import paddle

    if runs_behind_host():
        paddle.device.synchronize()


def peak_memory() -> int | None:
    """Return the peak memory of tensors on the current device, in bytes; None on the CPU or if unknown.

    paddle.device.cuda.max_memory_allocated reads the same counter, but only for GPUs. Paddle 2.6 does not count on
    custom devices.
    """
    from paddle.base import core

    if is_cpu():
        return None
    return core.device_memory_stat_peak_value("Allocated", number()) or None


def reset_peak_memory() -> bool:
    """Let `peak_memory` count from now on. Returns False if it cannot: Paddle 2.6 counts from the process's start."""
    from paddle.base import core

    if is_cpu() or not hasattr(core, "device_memory_stat_reset_peak_value"):
        return False
    core.device_memory_stat_reset_peak_value("Allocated", number())
    return True


def memory() -> dict[str, int] | None:
    """Return the memory in use on the current device, in bytes; None on the CPU or if unknown.

    "allocated" is what tensors use, "reserved" what Paddle holds for them.
    """
    from paddle.base import core

    if is_cpu():
        return None
    ask = core.device_memory_stat_current_value
    found = {"allocated": ask("Allocated", number()), "reserved": ask("Reserved", number())}
    return found if found["reserved"] else None


def thread_initializer() -> Callable[[], None]:
    """Return a function that a new thread calls first, so that it uses the same GPU as this thread.

    CUDA keeps a current device per thread, and a new thread's is GPU 0. Its first copy (such as `Tensor.numpy`)
    would allocate some hundred MB there, whichever GPU the process uses. Paddle's own place belongs to the process;
    calling an operator, here one that does nothing, passes it on to CUDA.
    """
    if "paddle" not in sys.modules or is_cpu():
        return lambda: None
    import paddle

    place = paddle.framework._current_expected_place_()

    def set_device() -> None:
        paddle._C_ops.empty([0], paddle.float32, place)

    return set_device


def gpu_description(index: int = 0) -> str:
    """Return a GPU's name and compute capability, such as "NVIDIA A100-SXM4-40GB 8.0"."""
    import paddle

    properties = paddle.device.cuda.get_device_properties(index)
    return f"{properties.name} {properties.major}.{properties.minor}"


def total_memory_gib() -> float | None:
    """Return the memory of the current GPU in GiB; None on other devices."""
    import paddle

    if device_type() != "gpu":
        return None
    return paddle.device.cuda.get_device_properties(number()).total_memory / 2**30
