"""Finds out what the device is. Runs in a process of its own, because it imports paddle and initialises the device."""

from importlib import metadata

from ppdet.acceptance.check_registry import CheckError
from ppdet.acceptance.device_facts import Facts
from ppdet.utils.errors import ConfigError, UserError

PACKAGES = (
    *("paddlepaddle", "paddlepaddle-gpu", "numpy", "opencv-python-headless", "opencv-python", "pycocotools"),
    *("onnx", "onnxruntime", "onnxruntime-gpu", "paddle2onnx", "openvino", "tensorrt"),
)


def find_facts(device: str) -> Facts:
    """Return the facts about `device`: a type as Paddle names it, or "auto" for the first one that is not the CPU.

    Raises:
        CheckError: there is no such device.
    """
    import paddle

    from ppdet.utils import device as devices

    counts = device_counts()
    if device == "auto":
        if not counts:
            raise CheckError(f"{why_no_device()}; --device cpu runs the kit on the CPU")
        device = next(iter(counts))
    if device != "cpu" and device not in counts:
        reason = f"paddle {paddle.__version__} finds {', '.join(counts)}" if counts else why_no_device()
        raise CheckError(f"--device {device}: there is no such device: {reason}")
    paddle.set_device(device)
    return Facts(
        device=device,
        cards=counts.get(device, 1),
        capability=devices.capability(),
        amp=types_of_mixed_precision(device),
        paddle=paddle.__version__,
        packages=versions(),
    )


def device_counts() -> dict[str, int]:
    """Return the number of devices of each type that Paddle can use, without the CPU; GPUs come first."""
    from ppdet.utils import device as devices

    kinds = sorted((kind for kind in devices.supported_types() if kind != "cpu"), key=lambda kind: kind != "gpu")
    return {kind: count for kind in kinds if (count := devices.count(kind))}


def why_no_device() -> str:
    """Return why Paddle finds only the CPU, and what to do."""
    import paddle

    from ppdet.utils import device as devices

    built = [kind for kind in devices.supported_types() if kind != "cpu"]
    if not built:
        return (
            f"paddle {paddle.__version__} is a build for CPUs: install the build for your device into this environment "
            "(docs/GPU.md)"
        )
    return (
        f"paddle {paddle.__version__} is built for {', '.join(built)}, but finds no such device: check its driver "
        "(nvidia-smi)"
    )


def types_of_mixed_precision(device: str) -> tuple[str, ...]:
    """Return the types of mixed precision that the current device supports; `device` is its type."""
    from ppdet.modeling import cpu

    if device == "cpu":
        return ("bfloat16",) if cpu.has_bfloat16() else ()
    # On GPUs no convolution is tried: if a kernel is missing that the capability promises, the checks have to fail.
    types = [dtype for dtype in ("float16", "bfloat16") if training_accepts(dtype)]
    return tuple(dtype for dtype in types if device == "gpu" or convolves_in(dtype))


def training_accepts(dtype: str) -> bool:
    """Whether training accepts `dtype` as `amp_dtype` on the current device."""
    from ppdet.engine.training.precision import smaller_type

    try:
        return smaller_type(dtype) == dtype
    except ConfigError:
        return False


def convolves_in(dtype: str) -> bool:
    """Whether the current device has kernels in `dtype` for a convolution, forward and backward."""
    import paddle

    image = paddle.ones([1, 8, 8, 8])
    weight = paddle.ones([8, 8, 3, 3])
    weight.stop_gradient = False
    try:
        with paddle.amp.auto_cast(dtype=dtype, level="O1"):
            y = paddle.nn.functional.conv2d(image, weight)
        y.astype("float32").sum().backward()
        return str(y.dtype).endswith(dtype) and float(weight.grad.sum()) > 0
    except UserError:
        raise
    except (RuntimeError, ValueError, NotImplementedError):  # what Paddle raises if a kernel is missing
        return False


def versions() -> dict[str, str]:
    """Return the versions of those PACKAGES that are installed."""
    installed = {str(package.metadata["Name"]).lower(): package.version for package in metadata.distributions()}
    return {name: installed[name] for name in PACKAGES if name in installed}
