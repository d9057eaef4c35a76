"""Finds out what the device is. Runs in a process of its own, since it loads paddle and makes a context on the GPU."""

from importlib import metadata

from ppdet.acceptance.check_registry import CheckError
from ppdet.acceptance.facts import Facts
from ppdet.utils.errors import UserError

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "opencv-python-headless", "opencv-python", "pycocotools")
ENGINES = ("onnx", "onnxruntime", "onnxruntime-gpu", "paddle2onnx", "openvino", "tensorrt")


def find_facts(device: str) -> Facts:
    """What is known of `device`: a type that Paddle names, or auto for the first that is no CPU.

    Raises:
        CheckError: there is none.
    """
    import paddle

    from ppdet.utils import device as devices

    there = available()
    if device == "auto":
        if not there:
            raise CheckError(f"{nothing()}; --device cpu runs the kit on the CPU")
        device = next(iter(there))
    if device != "cpu" and device not in there:
        having = f"paddle {paddle.__version__} finds {', '.join(there)}" if there else nothing()
        raise CheckError(f"--device {device}: there is no such device: {having}")
    paddle.set_device(device)
    return Facts(
        device=device,
        cards=there.get(device, 1),
        capability=devices.capability(),
        amp=types_of_mixed_precision(device),
        paddle=paddle.__version__,
        packages=versions(),
    )


def nothing() -> str:
    """Why there may be no device but the CPU, and what to do."""
    import paddle

    from ppdet.utils import device as devices

    built = [kind for kind in devices.kinds() if kind != "cpu"]
    if not built:
        return (
            f"paddle {paddle.__version__} is a build for CPUs: install the one for your device into this environment "
            "(docs/GPU.md)"
        )
    kinds = ", ".join(built)
    return f"paddle {paddle.__version__} is built for {kinds}, but finds none: does its driver see it (nvidia-smi)"


def types_of_mixed_precision(device: str) -> tuple[str, ...]:
    """Those that the current device computes in."""
    from ppdet.modeling import cpu

    if device == "cpu":
        return ("bfloat16",) if cpu.has_bfloat16() else ()
    # Not tried out on a GPU: what it should have by its capability, and has not, is a failure.
    return tuple(
        dtype for dtype in ("float16", "bfloat16") if offered(dtype) and (device == "gpu" or convolves_in(dtype))
    )


def offered(dtype: str) -> bool:
    """Whether training would take the type on the current device."""
    from ppdet.engine.training.precision import smaller_type
    from ppdet.utils.errors import ConfigError

    try:
        return smaller_type(dtype) == dtype
    except ConfigError:
        return False


def convolves_in(dtype: str) -> bool:
    """Whether the current device has a kernel of this type for a convolution, forward and backward."""
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
    except (RuntimeError, ValueError, NotImplementedError):  # what Paddle raises where there is no kernel
        return False


def available() -> dict[str, int]:
    """How many devices of each type Paddle can use, the CPU aside; GPUs come first."""
    from ppdet.utils import device as devices

    kinds = sorted((kind for kind in devices.kinds() if kind != "cpu"), key=lambda kind: kind != "gpu")
    found = {kind: devices.count(kind) for kind in kinds}
    return {kind: count for kind, count in found.items() if count}


def versions() -> dict[str, str]:
    """Of the packages that matter and are installed, by name."""
    found = {}
    for name in (*PACKAGES, *ENGINES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
