"""Training on CPUs at oneDNN's speed: what `ppdet.modeling.layers` uses when a tensor lies in host memory.

On by default; `set_enabled(False)` (`use_onednn: false` in a configuration) leaves everything to Paddle. Where the
library, its version or the processor does not fit, a check at first use says so in one line of the log, and Paddle's
own operations do the work.

Gradients come by one call of `backward()`. `paddle.grad` of some inputs only, gradients of gradients, and a second
`backward()` after one with `retain_graph=True` (where Paddle crashes) need Paddle's own layers.
"""

import functools

import paddle
from paddle import Tensor, nn

from ppdet.modeling.cpu import convolution, onednn
from ppdet.modeling.cpu.maps import add_relu, fork, max_pool, mean_pool, relu, upsample_twice
from ppdet.modeling.cpu.norm import batch_norm, group_norm
from ppdet.modeling.cpu.tensors import UnchangedWeights, compute_in
from ppdet.utils import device
from ppdet.utils.logger import get_logger

__all__ = [
    "UnchangedWeights",
    "add_relu",
    "batch_norm",
    "compute_in",
    "convolve",
    "fork",
    "group_norm",
    "has_bfloat16",
    "max_pool",
    "mean_pool",
    "ready",
    "relu",
    "set_enabled",
    "takes",
    "takes_norm",
    "upsample_twice",
    "version",
]
logger = get_logger(__name__)
# The largest difference from Paddle that the check admits, relative to the whole result: rounding, and in bfloat16 a
# ReLU that rounding opens or closes.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
_enabled = True


def set_enabled(enabled: bool) -> None:
    """Use oneDNN for tensors in host memory, where it works; or never."""
    global _enabled
    _enabled = enabled


def takes(*maps: Tensor) -> bool:
    """Whether the operations of this package compute on these maps (N, C, H, W), which have one shape.

    They do while Python runs the model on a CPU, in float32 or bfloat16.
    """
    if not (_enabled and paddle.in_dynamic_mode()):
        return False
    first = maps[0]
    for x in maps:
        fits = x.dtype in onednn.DATA_TYPES and x.place.is_cpu_place() and x.shape == first.shape
        if not fits or len(x.shape) != 4 or x.size == 0:
            return False
    # In a GPU build, new tensors would not lie in host memory.
    return device.is_cpu() and ready()


def takes_norm(norm: nn.Layer, x: Tensor) -> bool:
    """Whether `batch_norm` or `group_norm` computes norm(x)."""
    if not takes(x) or norm.weight is None or norm.bias is None or norm._data_format != "NCHW":
        return False
    return all(v.dtype == paddle.float32 and v.shape == [x.shape[1]] for v in (norm.weight, norm.bias))


def convolve(conv: nn.Conv2D, x: Tensor, **options: object) -> Tensor | None:
    """`convolution.convolve`, or None where Paddle has to do it: on another device, or a layer of another kind."""
    if not takes(x):
        return None
    y = convolution.convolve(conv, x, **options)
    if y is None:
        tell_once(conv)
    return y


def tell_once(conv: nn.Conv2D) -> None:
    if not getattr(conv, "told", False):
        conv.told = True
        logger.info("%s (%s): Paddle's own convolution", conv.full_name(), conv.extra_repr())


def ready() -> bool:
    """Whether oneDNN is there and gives the numbers that Paddle's own operations give."""
    return agrees("float32")


def has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 in the processor's own instructions (AVX-512 BF16, AMX), and does so rightly.

    Where it does not, float32 is as fast: other processors with AVX-512 compute bfloat16 by way of float32, and the
    rest have no bfloat16 for training at all.
    """
    return ready() and onednn.multiplies_bfloat16() and agrees("bfloat16")


@functools.lru_cache(maxsize=2)
def agrees(dtype: str) -> bool:
    """Whether the operations give Paddle's numbers, computing in this type. Found out once, which takes 0.1 s."""
    from ppdet.modeling.cpu.self_test import difference

    try:
        found = difference(dtype)
    # A library that is missing, older or stripped can fail in any way there is, and none of them is the user's concern.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        told = {
            "float32": "Paddle's own (oneDNN cannot be used here: %s)",
            "bfloat16": "no bfloat16 by oneDNN here: %s",
        }
        logger.info("CPU layers: " + told[dtype], reason)
        return False
    if not found <= TOLERANCE[dtype]:
        logger.warning("CPU layers: not by oneDNN in %s (its results differ by %.1e)", dtype, found)
        return False
    return True


def version() -> str:
    """oneDNN's version; only where `ready()`."""
    return ".".join(map(str, onednn.library().version))
