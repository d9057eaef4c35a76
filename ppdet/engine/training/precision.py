"""The number type that passes compute in: float32, bfloat16 or float16 (mixed precision)."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import paddle
from paddle import Tensor

from ppdet.core.config import Config
from ppdet.engine.runtime import computing_type
from ppdet.engine.training.loss_scale import LEAST, LossScale, all_finite
from ppdet.modeling import cpu
from ppdet.optimizer.joined import divide
from ppdet.utils import device
from ppdet.utils.errors import ConfigError


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
        """The context for a forward pass without backward pass. Pixels are normalised in float32, outside of it."""
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
        """Return what a checkpoint keeps."""
        return {} if self.loss_scale is None else self.loss_scale.state()

    def load_state(self, state: dict) -> None:
        """Restore what `state` returned; the state of a run in another type is ignored."""
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
    ours = {"group_norm", "depthwise_conv2d"} if device.kind() == "gpu" else set()
    return {
        "custom_white_list": white | (ours - black),
        "custom_black_list": black,
        "level": cfg["amp_level"],
        "dtype": dtype,
        # At O2, promotion would compute every operation that reads a weight in float32, the type of weights.
        "use_promote": cfg["amp_level"] == "O1",
    }
