"""Training on CPUs at oneDNN's speed: what `ppdet.modeling.layers` uses when a tensor lies in host memory.

On by default; `set_enabled(False)` (`use_onednn: false` in a configuration) leaves everything to Paddle. Where the
library, its version or the processor does not fit, a check at first use says so in one line of the log, and Paddle's
own operations do the work.
"""

import functools
from pathlib import Path
from typing import Optional

import paddle
from paddle import Tensor, nn

from ppdet.modeling.cpu import functions, onednn
from ppdet.modeling.cpu.functions import compute_in, weights_unchanged
from ppdet.utils.logger import get_logger

__all__ = [
    "compute_in",
    "convolve",
    "functions",
    "has_bfloat16",
    "ready",
    "set_enabled",
    "takes",
    "version",
    "weights_unchanged",
]
logger = get_logger(__name__)
_enabled = True


def set_enabled(enabled: bool) -> None:
    """Use oneDNN for tensors in host memory, where it works; or never."""
    global _enabled
    _enabled = enabled


def takes(x: Tensor) -> bool:
    """Whether the functions of this package compute on x: while Python runs the model, on the CPU."""
    return _enabled and paddle.in_dynamic_mode() and x.place.is_cpu_place() and ready()


@functools.lru_cache(maxsize=1)
def ready() -> bool:
    """Whether oneDNN is there and gives the numbers that Paddle's own operations give."""
    from ppdet.modeling.cpu.check import difference

    try:
        found = difference()
    except (OSError, AttributeError, RuntimeError) as error:
        logger.info("CPU layers: Paddle's own (oneDNN cannot be used here: %s)", str(error).splitlines()[0])
        return False
    if not found < 1e-4:
        logger.warning("CPU layers: Paddle's own (oneDNN's results differ by %.1e of the largest value)", found)
        return False
    return True


def convolve(conv: nn.Conv2D, x: Tensor, **options: object) -> Optional[Tensor]:
    """`functions.convolve`, or None where Paddle has to do it: another device, or nothing fast for such a layer."""
    if not takes(x) or getattr(conv, "only_paddle", False):
        return None
    try:
        return functions.convolve(conv, x, **options)
    except (functions.UnknownLayer, onednn.OneDNNError) as error:
        conv.only_paddle = True
        logger.info("%s: Paddle's own (%s)", conv.full_name(), error)
        return None


def version() -> str:
    """oneDNN's version; only where `ready()`."""
    return ".".join(map(str, onednn.library().version))


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 (AVX-512 BF16, AMX); where it does not, float32 is as fast."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
