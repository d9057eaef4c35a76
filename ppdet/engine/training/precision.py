"""The number type that passes compute in: float32, bfloat16 or float16 (mixed precision)."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import paddle
from paddle import Tensor

from ppdet.core.config import Config
from ppdet.engine.training.loss_scale import LEAST, LossScale, all_finite
from ppdet.modeling import cpu
from ppdet.optimizer.joined import divide
from ppdet.utils import device
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class Precision:
    """Computes passes in the configuration's type; weights, losses, decoded boxes and the optimizer stay in float32.

    On a CPU, the layers that oneDNN computes use the type. On a GPU, Paddle casts the inputs of operations: at O1 of
    those that gain by it, at O2 of all that have a kernel for the type. The weights stay float32 in both cases
    (paddle.amp.decorate calls them master weights), and so do checkpoints and averages.

    Args:
        setting: the setting that turns mixed precision on: `amp` in training, `eval_amp` in evaluation and inference.

    Attributes:
        dtype: "float32", "bfloat16" or "float16". loss_scale: the loss scale in float16 training, else None.
    """

    def __init__(self, cfg: Config, setting: Literal["amp", "eval_amp"] = "amp") -> None:
        self.dtype = computing_type(cfg, setting)
        on_gpu = not device.is_cpu()
        self.autocast_options = autocast_options(cfg, self.dtype) if on_gpu and self.dtype != "float32" else None
        scaled = on_gpu and self.dtype == "float16" and setting == "amp"
        self.loss_scale: LossScale | None = LossScale() if scaled else None
        self.one = paddle.ones([])

    def context(self) -> contextlib.AbstractContextManager:
        """Return the context for forward and backward passes."""
        return cpu.compute_in(self.dtype)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context for the forward pass, within `context`; backward passes follow its types by themselves."""
        return paddle.amp.auto_cast(**self.autocast_options) if self.autocast_options else contextlib.nullcontext()

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """The context for a forward pass without backward pass. Pixels are normalized in float32, outside of it."""
        with self.context(), self.autocast():
            yield

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss multiplied by the loss scale, for `backward`."""
        return loss if self.loss_scale is None else loss * self.loss_scale.value

    def unscale(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Divide gradients by the loss scale, in place, and check that they are finite.

        Args:
            gradients: gradients and any other tensors to check; all are divided.

        Returns:
            A boolean tensor on the device, true if all values are finite, and the loss scale, None without one.
        """
        if self.loss_scale is not None:
            return self.loss_scale.unscale(gradients), self.loss_scale.value
        return (divide(gradients, self.one) if device.runs_behind_host() else all_finite(gradients)), None

    def adjust(self, finite: Tensor) -> None:
        """Update the loss scale, given whether all gradients were finite (a boolean tensor, which is not read)."""
        if self.loss_scale is not None:
            self.loss_scale.adjust(finite)

    def state(self) -> dict:
        """Return the state for a checkpoint."""
        return {} if self.loss_scale is None else self.loss_scale.state()

    def load_state(self, state: dict) -> None:
        """Restore a state of `state()`; the state of a run in another type is ignored."""
        if self.loss_scale is not None and state:
            self.loss_scale.load_state(state)


def is_overflow(scale: Tensor, losses: Sequence[float]) -> bool:
    """Whether gradients of a step overflowed only because the loss scale was too large.

    Args:
        scale: the loss scale of the step.
        losses: all losses of the step on all ranks. If one is not finite, neither is its gradient at any scale.
    """
    return float(scale) > LEAST and all(math.isfinite(loss) for loss in losses)


def autocast_options(cfg: Config, dtype: str) -> dict:
    """Return the arguments of paddle.amp.auto_cast.

    On a GPU, group norms read and write the smaller type too: Paddle's GPU kernels accumulate in float32, forward and
    backward. Paddle's own list, which is made for all devices, leaves group norms in float32.

    Raises:
        ConfigError: an operation is in both of the configuration's lists.
    """
    white, black = (set(cfg[f"custom_{color}_list"] or ()) for color in ("white", "black"))
    if white & black:
        raise ConfigError(
            f"{cfg.path}: custom_white_list and custom_black_list both have {', '.join(sorted(white & black))}"
        )
    ours = {"group_norm", "depthwise_conv2d"} if device.device_type() == "gpu" else set()
    return {
        "custom_white_list": white | (ours - black),
        "custom_black_list": black,
        "level": cfg["amp_level"],
        "dtype": dtype,
        # At O2, promotion would compute every operation that reads a weight in float32, the type of weights.
        "use_promote": cfg["amp_level"] == "O1",
    }


def computing_type(cfg: Config, setting: Literal["amp", "eval_amp"]) -> str:
    """Return the type that layers compute in, "float32", "bfloat16" or "float16", and log it.

    Args:
        setting: the setting that turns mixed precision on: `amp` in training, `eval_amp` in evaluation and inference.

    Raises:
        ConfigError: a GPU or another device does not support mixed precision, or `amp_dtype`.
    """
    is_on, doing = cfg[setting], {"amp": "training", "eval_amp": "evaluation"}[setting]
    if not is_on and (setting == "eval_amp" or not device.is_cpu()):
        return "float32"
    if not device.is_cpu():
        dtype = smaller_type(cfg["amp_dtype"])
        logger.info("%s in mixed precision: %s, %s", doing, dtype, cfg["amp_level"])
        return dtype
    onednn = cfg["use_onednn"] and cpu.ready()
    dtype = "bfloat16" if is_on and onednn and cpu.has_bfloat16() else "float32"
    if is_on and dtype == "float32":
        logger.warning(
            "%s: %s in float32: bfloat16 needs oneDNN and a processor with AVX-512 BF16 or AMX", setting, doing
        )
    if is_on:
        on_cpus = {"amp_dtype": (None, "bfloat16"), "amp_level": ("O1",)}
        ignored = [key for key, values in on_cpus.items() if cfg[key] not in values]
        ignored += [key for key in ("custom_white_list", "custom_black_list") if cfg[key]]
        if ignored:
            logger.warning("%s: for GPUs only; on this CPU oneDNN's layers compute in %s", ", ".join(ignored), dtype)
    if onednn:
        logger.info("CPU layers: oneDNN %s, %s", cpu.version(), dtype)
    return dtype


def smaller_type(dtype: str | None) -> str:
    """Return the type of mixed precision on the current device, which is not the CPU.

    Args:
        dtype: "float16", "bfloat16", or None for the better type that the device supports.

    Raises:
        ConfigError: the device does not support the type.
    """
    capability = device.capability()
    if capability is not None:
        return gpu_type(dtype, capability)
    supported = [name for name in ("bfloat16", "float16") if device.casts_to(name)]
    if supported and (dtype is None or dtype in supported):
        return dtype or supported[0]
    instead = f"set amp_dtype to {supported[0]}" if supported else "leave amp out"
    raise ConfigError(f"amp: Paddle has no mixed precision in {dtype or 'any type'} on {device.name()}: {instead}")


def gpu_type(dtype: str | None, capability: tuple[int, int]) -> str:
    """Return the type of mixed precision on a GPU of this compute capability, such as (8, 0); see `smaller_type`."""
    needed = {"float16": 7, "bfloat16": 8}
    dtype = dtype or ("bfloat16" if capability[0] >= needed["bfloat16"] else "float16")
    if capability[0] < needed[dtype]:
        instead = "set amp_dtype to float16" if capability[0] >= needed["float16"] else "leave amp out"
        raise ConfigError(
            f"amp: {dtype} needs a GPU of compute capability {needed[dtype]}.0, this one has "
            f"{capability[0]}.{capability[1]}: {instead}"
        )
    return dtype
