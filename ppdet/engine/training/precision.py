"""The type that training computes in."""

import contextlib
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
    """Passes in the configuration's type; weights, losses, decoded boxes and the optimizer stay float32.

    On a CPU the layers that oneDNN computes take the type. On a GPU Paddle casts what goes into its operations: O1
    those that gain by it, O2 all that have a kernel for it. The weights themselves stay float32 in both, which is what
    paddle.amp.decorate calls master weights: checkpoints, averages and the optimizer know of nothing else.

    Args:
        setting: what asks for a smaller type: `amp` for training, `eval_amp` for evaluation and inference.
    """

    def __init__(self, cfg: Config, setting: Literal["amp", "eval_amp"] = "amp") -> None:
        self.dtype = computing_type(cfg, setting)
        on_gpu = not device.is_cpu()
        self.autocast_options = autocast_options(cfg, self.dtype) if on_gpu and self.dtype != "float32" else None
        scaled = on_gpu and self.dtype == "float16" and setting == "amp"
        self.loss_scale: LossScale | None = LossScale() if scaled else None
        self.one = paddle.ones([])

    def context(self) -> contextlib.AbstractContextManager:
        """Where forward and backward passes run."""
        return cpu.compute_in(self.dtype)

    def autocast(self) -> contextlib.AbstractContextManager:
        """Where the forward pass runs, besides. Not the backward pass: its operations follow those of the forward."""
        return paddle.amp.auto_cast(**self.autocast_options) if self.autocast_options else contextlib.nullcontext()

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """Where a forward pass alone runs. Not what makes its batch: pixels are normalised in float32."""
        with self.context(), self.autocast():
            yield

    def scale(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` of."""
        return loss if self.loss_scale is None else loss * self.loss_scale.value

    def unscale(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Make gradients of the scaled loss those of the loss, in place.

        Args:
            gradients: and what is to be looked at with them; it is divided as they are.

        Returns:
            whether all of them are finite, on the device, and the scale that they had, if any.
        """
        if self.loss_scale is not None:
            return self.loss_scale.unscale(gradients), self.loss_scale.value
        return (divide(gradients, self.one) if device.runs_behind_host() else all_finite(gradients)), None

    def adjust(self, finite: Tensor) -> None:
        """Take note of whether all gradients of this step were finite, without reading it."""
        if self.loss_scale is not None:
            self.loss_scale.adjust(finite)

    def state(self) -> dict:
        """What a checkpoint keeps."""
        return {} if self.loss_scale is None else self.loss_scale.state()

    def load_state(self, state: dict) -> None:
        """Restore what `state` gave; that of a run in another type changes nothing."""
        if self.loss_scale is not None and state:
            self.loss_scale.load_state(state)


def is_overflow(scale: Tensor | None, losses: Sequence[float | str]) -> bool:
    """Whether gradients that are not finite come from too large a scale, which the next step has lower.

    Args:
        scale: of the loss in that step. losses: of that step, on all ranks.
    """
    # Infinities that the scale did not make stay when it is 1.
    return scale is not None and float(scale) > LEAST and all(abs(float(loss)) < float("inf") for loss in losses)


def autocast_options(cfg: Config, dtype: str) -> dict:
    """Arguments of paddle.amp.auto_cast.

    On a GPU group norms take and give maps of the smaller type: Paddle's kernels there add up in float32, forward and
    backward, which its own list, made for all devices, does not count on.

    Raises:
        ConfigError: an operation stands in both lists.
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
        # With it, an operation that takes a weight would be computed in the weights' float32 at O2.
        "use_promote": cfg["amp_level"] == "O1",
    }
