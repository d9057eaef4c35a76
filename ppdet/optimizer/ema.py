"""Exponential moving average of a model's weights."""

import math

import paddle
from paddle import Tensor, nn

DECAY_TYPES = ("threshold", "normal", "exponential")


class ModelEMA:
    """Averaged weights and buffers of a model.

    After step t (from 1): average = d * average + (1 - d) * weights, with d = `decay` (normal),
    min(decay, (1 + t) / (10 + t)) (threshold) or decay * (1 - exp(-(t + 1) / 2000)) (exponential). `normal` starts
    from the first step's weights; the other two forget their start by themselves.

    Args:
        decay: in 0..1. decay_type: normal, threshold or exponential.
    """

    def __init__(self, model: nn.Layer, *, decay: float = 0.9998, decay_type: str = "threshold") -> None:
        if decay_type not in DECAY_TYPES:
            raise ValueError(f"ema_decay_type is {decay_type!r}; it must be one of {', '.join(DECAY_TYPES)}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"ema_decay is {decay}; it must be at least 0 and less than 1")
        self.model = model
        self.decay = decay
        self.decay_type = decay_type
        self.step = 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def current_decay(self) -> float:
        if self.decay_type == "threshold":
            return min(self.decay, (1 + self.step) / (10 + self.step))
        if self.decay_type == "exponential":
            return self.decay * (1 - math.exp(-(self.step + 1) / 2000))
        return self.decay

    @paddle.no_grad()
    def update(self) -> None:
        """Take in the model's weights after an optimizer step."""
        self.step += 1
        first = self.step == 1 and self.decay_type == "normal"
        share = paddle.full([], 1.0 if first else 1.0 - self.current_decay())
        # In place, with one kernel for each tensor: no new memory, and nothing that waits for the device.
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, share)

    def state_dict(self) -> dict[str, Tensor]:
        return self.average

    def set_state_dict(self, state: dict, step: int) -> None:
        """Restore what `state_dict` gave after `step` updates."""
        for name, value in state.items():
            self.average[name].set_value(value)
        self.step = step
