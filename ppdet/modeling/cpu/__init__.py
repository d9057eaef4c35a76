"""Layers that train on CPUs with oneDNN, faster than Paddle's own: `ppdet.modeling.layers` uses them for tensors there.

They are on by default; `set_enabled(False)`, or `use_onednn: false` in a configuration, leaves everything to Paddle.
A check at first use compares oneDNN with Paddle; once passed, it holds until the machine, Paddle or the code changes.
Where the library is missing, has another version or does not support the processor, one line in the log says so, and
Paddle's operations are used.

Gradients are computed by one call of `backward()`. `paddle.grad` of only some inputs, gradients of gradients, and a
second `backward()` after one with `retain_graph=True`, in which Paddle crashes, need Paddle's layers.
"""

import functools
from typing import Any

import paddle
from paddle import Tensor, nn

from ppdet.modeling.cpu import convolution, onednn
from ppdet.modeling.cpu.maps import add_relu, duplicate_with_summed_gradient, max_pool, mean_pool, relu, upsample_twice
from ppdet.modeling.cpu.norm import batch_norm, group_norm
from ppdet.modeling.cpu.tensors import CachedPackedWeights, compute_in
from ppdet.utils import device
from ppdet.utils.logger import get_logger

__all__ = [
    "CachedPackedWeights",
    "add_relu",
    "batch_norm",
    "can_compute",
    "can_compute_norm",
    "compute_in",
    "convolve",
    "duplicate_with_summed_gradient",
    "group_norm",
    "has_bfloat16",
    "max_pool",
    "mean_pool",
    "ready",
    "relu",
    "set_enabled",
    "upsample_twice",
    "version",
]
logger = get_logger(__name__)
# The largest relative difference from Paddle that passes the check. In bfloat16, rounding can flip a ReLU.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
_enabled = True


def set_enabled(enabled: bool) -> None:
    """Switch the layers of this package on, where they work, or off."""
    global _enabled
    _enabled = enabled


def can_compute(*maps: Tensor) -> bool:
    """Whether the operations of this package can compute with these maps.

    They can if Python runs the model on a CPU, and the maps are (N, C, H, W), float32 or bfloat16, of one shape.
    """
    if not (_enabled and paddle.in_dynamic_mode()):
        return False
    first = maps[0]
    for x in maps:
        fits = x.dtype in onednn.DATA_TYPES and x.place.is_cpu_place() and x.shape == first.shape
        if not fits or len(x.shape) != 4 or x.size == 0:
            return False
    # On a GPU, new tensors would not be in host memory.
    return device.is_cpu() and ready()


def can_compute_norm(norm: nn.Layer, x: Tensor) -> bool:
    """Whether `batch_norm` or `group_norm` can compute norm(x)."""
    if not can_compute(x) or norm.weight is None or norm.bias is None or norm._data_format != "NCHW":
        return False
    return all(v.dtype == paddle.float32 and v.shape == [x.shape[1]] for v in (norm.weight, norm.bias))


def convolve(conv: nn.Conv2D, x: Tensor, **options: Any) -> Tensor | None:
    """`convolution.convolve`, or None where Paddle has to compute it: on other devices, or for lack of a kernel.

    For lack of a kernel, the log says so once for each layer.
    """
    if not can_compute(x):
        return None
    y = convolution.convolve(conv, x, **options)
    if y is None and not getattr(conv, "is_logged", False):
        conv.is_logged = True
        logger.info("%s (%s) uses Paddle's convolution: oneDNN has none", conv.full_name(), conv.extra_repr())
    return y


def ready() -> bool:
    """Whether oneDNN is available and computes what Paddle's operations compute."""
    return agrees("float32")


def has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 with the processor's instructions for it (AVX-512 BF16, AMX), correctly.

    On other processors, bfloat16 is not faster than float32: with AVX-512, oneDNN computes it in float32; without,
    oneDNN cannot train in it.
    """
    return ready() and onednn.multiplies_bfloat16() and agrees("bfloat16")


@functools.lru_cache(maxsize=2)
def agrees(dtype: str) -> bool:
    """Whether the operations in this type pass the check against Paddle, which runs once and takes 0.1 s.

    What passed is kept in the user's cache for the next process, see `kept_checks`.
    """
    from ppdet.modeling.cpu import kept_checks, self_test

    try:
        found = kept_checks.kept_difference(dtype, self_test.difference, TOLERANCE[dtype])
    # A missing, old or incomplete library can fail in any way; in all cases Paddle's operations are used.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logger.info("CPU layers: oneDNN cannot compute in %s (%s); Paddle's layers do", dtype, reason)
        return False
    if not found <= TOLERANCE[dtype]:
        logger.warning("CPU layers: oneDNN is not used in %s: its results differ from Paddle's by %.1e", dtype, found)
        return False
    return True


def version() -> str:
    """oneDNN's version, such as 3.6.2; only call it if `ready()`."""
    return ".".join(map(str, onednn.library().version))
