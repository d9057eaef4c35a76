"""What device Paddle computes on in this process: the one module that asks Paddle, so that a test can answer for it."""

import sys
import warnings
from collections.abc import Callable


def name() -> str:
    """The current device as Paddle writes it: "cpu", "gpu:0", "xpu:1", ..."""
    import paddle

    return paddle.get_device()


def kind() -> str:
    """The type of the current device: "cpu", "gpu", "xpu", or what a custom device is called ("npu", "mlu", ...)."""
    return name().partition(":")[0]


def number() -> int:
    """Which of the devices of its type the current one is, from 0."""
    return int(name().partition(":")[2] or 0)


def is_cpu() -> bool:
    return kind() == "cpu"


def runs_behind_host() -> bool:
    """Whether work goes on after the call that asks for it has returned, so that reading a number waits for it.

    That is so on everything but the CPU.
    """
    return not is_cpu()


def kinds() -> list[str]:
    """The types of device that this Paddle is built for, or has a plugin for; none of a type need be there."""
    import paddle

    built = {"gpu": paddle.is_compiled_with_cuda(), "xpu": paddle.is_compiled_with_xpu()}
    return ["cpu", *(kind for kind, is_built in built.items() if is_built), *custom_kinds()]


def custom_kinds() -> list[str]:
    """The types of device for which Paddle has found a plugin."""
    import paddle

    return list(paddle.device.get_all_custom_device_type() or ())


def count(kind: str) -> int:
    """How many devices of a type this Paddle can use here; 0 as well where its driver is missing."""
    from paddle.base import core

    ask = {"cpu": lambda: 1, "gpu": getattr(core, "get_cuda_device_count", None)}
    ask["xpu"] = getattr(core, "get_xpu_device_count", None)
    if kind in custom_kinds():
        ask[kind] = lambda: core.get_custom_device_count(kind)
    try:
        return ask[kind]() if ask.get(kind) else 0
    except (RuntimeError, OSError):  # what Paddle raises of a driver that is not there
        return 0


def capability() -> tuple[int, int] | None:
    """CUDA's compute capability of the current GPU; None on any other device, and where there is no driver."""
    import paddle

    if kind() != "gpu" or paddle.is_compiled_with_rocm():
        return None
    try:
        return paddle.device.cuda.get_device_capability()
    except (ValueError, RuntimeError, OSError):  # a build without CUDA, or no driver
        return None


def casts_to(dtype: str) -> bool:
    """Whether paddle.amp.auto_cast casts to "float16" or "bfloat16" on the current device: it turns itself off, with
    a warning, where it takes the device not to have the type."""
    import paddle

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with paddle.amp.auto_cast(dtype=dtype, level="O1"):
            return paddle.base.framework._dygraph_tracer()._amp_level == paddle.base.core.AmpLevel.O1


def has_kernel(operator: str) -> bool:
    """Whether Paddle has a kernel of an operator for the current device; what it falls back to is not counted."""
    from paddle.base import core

    keys = core._get_registered_phi_kernels("all").get(operator, ())
    # CUSTOM are Paddle's own for all devices that it has by plugins.
    backends = {kind(), kind().upper(), "CUSTOM" if kind() in custom_kinds() else ""}
    return any(key[1:].partition(",")[0] in backends for key in keys)


def can_be_profiled() -> bool:
    """Whether Paddle's profiler can record here: that of a build for GPUs raises where no GPU can be used."""
    return "gpu" not in kinds() or count("gpu") > 0


def synchronize() -> None:
    """Wait until the device has done all that it was asked for."""
    import paddle

    if runs_behind_host():
        paddle.device.synchronize()


def peak_memory() -> int | None:
    """The most memory that tensors have taken on the current device so far, in bytes; None where it does not say.

    paddle.device.cuda.max_memory_allocated reads the same counter, but only of GPUs. Paddle 2.6 counts nothing on
    custom devices.
    """
    from paddle.base import core

    if is_cpu():
        return None
    return core.device_memory_stat_peak_value("Allocated", number()) or None


def reset_peak_memory() -> bool:
    """Let `peak_memory` count from now on; False where it cannot: Paddle 2.6 counts from the process's start."""
    from paddle.base import core

    if is_cpu() or not hasattr(core, "device_memory_stat_reset_peak_value"):
        return False
    core.device_memory_stat_reset_peak_value("Allocated", number())
    return True


def memory() -> dict[str, int] | None:
    """Bytes on the current device now: "allocated", by tensors, and "reserved", which Paddle keeps for them; None where
    it does not say."""
    from paddle.base import core

    if is_cpu():
        return None
    ask = core.device_memory_stat_current_value
    found = {"allocated": ask("Allocated", number()), "reserved": ask("Reserved", number())}
    return found if found["reserved"] else None


def here() -> Callable[[], None]:
    """Taken in one thread, called at the start of another: makes this thread's device the current one of that thread.

    CUDA keeps a current device for each thread, and that of a new thread is GPU 0. The first copy that it asks for
    (`Tensor.numpy`, say) would take some hundred MB there, whichever GPU the process was given. Paddle's own place
    is the process's; what tells it to CUDA in a thread is the call of an operator, here one that does nothing.
    """
    if "paddle" not in sys.modules or is_cpu():
        return lambda: None
    import paddle

    place = paddle.framework._current_expected_place_()

    def set_device() -> None:
        paddle._C_ops.empty([0], paddle.float32, place)

    return set_device


def title(index: int = 0) -> str:
    """A GPU's name and its compute capability: "NVIDIA A100-SXM4-40GB 8.0"."""
    import paddle

    properties = paddle.device.cuda.get_device_properties(index)
    return f"{properties.name} {properties.major}.{properties.minor}"
