"""Finds out what the device is. Runs in a process of its own, since it loads paddle and makes a context on the GPU."""

from importlib import metadata

from ppdet.acceptance.facts import Facts
from ppdet.acceptance.registry import CheckError

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "numpy", "opencv-python-headless", "opencv-python", "pycocotools")
ENGINES = ("onnx", "onnxruntime", "onnxruntime-gpu", "paddle2onnx", "openvino", "tensorrt")
NOTHING = "Paddle finds no device but the CPU here: --device cpu runs the kit on it"


def find_facts(device: str) -> Facts:
    """What is known of `device`: a type that Paddle names, or auto for the first that is no CPU.

    Raises:
        CheckError: there is none.
    """
    import paddle

    from ppdet.modeling import cpu
    from ppdet.utils import device as devices

    there = available()
    if device == "auto":
        if not there:
            raise CheckError(f"paddle {paddle.__version__}: {NOTHING}")
        device = next(iter(there))
    if device != "cpu" and device not in there:
        having = f"it has {', '.join(there)}" if there else NOTHING
        raise CheckError(f"--device {device}: paddle {paddle.__version__} has no such device: {having}")
    paddle.set_device(device)
    if device == "cpu":
        amp = ("bfloat16",) if cpu.has_bfloat16() else ()
    else:
        supported = {"float16": paddle.amp.is_float16_supported, "bfloat16": paddle.amp.is_bfloat16_supported}
        amp = tuple(dtype for dtype, is_supported in supported.items() if is_supported())
    return Facts(
        device=device,
        cards=there.get(device, 1),
        capability=devices.capability(),
        amp=amp,
        paddle=paddle.__version__,
        packages=versions(),
    )


def available() -> dict[str, int]:
    """How many devices of each type Paddle can use, the CPU aside; GPUs come first."""
    from ppdet.utils import device as devices

    found = {kind: devices.count(kind) for kind in devices.kinds() if kind != "cpu"}
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
