"""Exponential moving average of a model's weights."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn

from ppdet.optimizer.joined import Joined

DECAY_TYPES = ("threshold", "normal", "exponential")


class Pair(NamedTuple):
    """A weight and its average, or many of each as `Joined`; `is_copied`: the average is always a copy."""

    average: Any
    value: Any
    is_copied: bool


class ModelEMA:
    """The exponential moving average of a model's weights and buffers.

    After step t (from 1): average = d * average + (1 - d) * weights, with d = `decay` (normal),
    min(decay, (1 + t) / (10 + t)) (threshold) or decay * (1 - exp(-(t + 1) / 2000)) (exponential). `normal` starts
    from the weights after the first step; the other two start with a small d, which soon forgets the initial weights.

    Args:
        model: the model that is trained.
        decay: weight of the old average, from 0 to less than 1, for example 0.9998.
        decay_type: normal, threshold or exponential.
        start: number of steps during which the average is a copy of the weights; t counts from there.
        copied: names of weights whose average is always a copy; integers are always copied.
        into: a model of the same architecture whose weights become the averages; None: new tensors.
    """

    def __init__(
        self,
        model: nn.Layer,
        *,
        decay: float = 0.9998,
        decay_type: str = "threshold",
        start: int = 0,
        copied: Iterable[str] = (),
        into: nn.Layer | None = None,
    ) -> None:
        if decay_type not in DECAY_TYPES:
            raise ValueError(f"ema_decay_type is {decay_type!r}; it must be one of {', '.join(DECAY_TYPES)}")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"ema_decay is {decay}; it must be at least 0 and less than 1")
        self.model = model
        self.decay = decay
        self.decay_type = decay_type
        self.start = start
        self.copied = frozenset(copied)
        self.step = 0
        self._joined: list[Pair] = []
        self._separate: list[Pair] = []
        if into is None:
            self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        else:
            into.set_state_dict(model.state_dict())
            self.average = into.state_dict()

    def current_decay(self) -> float:
        """The decay of the current step, which `update` has counted."""
        step = self.step - self.start
        if step <= 0 or (step == 1 and self.decay_type == "normal"):
            return 0.0
        if self.decay_type == "threshold":
            return min(self.decay, (1 + step) / (10 + step))
        if self.decay_type == "exponential":
            return self.decay * (1 - math.exp(-(step + 1) / 2000))
        return self.decay

    def join(self) -> None:
        """From now on, update with few kernels, which is faster on GPUs.

        There are five kernels, and two more if some weights are always copied, however many weights there are.
        """
        pairs = self.pairs()
        for is_copied in (False, True):
            alike = [p for p in pairs if p.is_copied == is_copied and p.value.dtype == paddle.float32]
            if alike:
                averages, values = Joined([p.average for p in alike]), Joined([p.value for p in alike])
                self._joined.append(Pair(averages, values, is_copied))
        self._separate = [pair for pair in pairs if pair.value.dtype != paddle.float32]

    def pairs(self) -> list[Pair]:
        """Each weight with its average."""
        return [
            # Integers have no average.
            Pair(self.average[name], value, name in self.copied or not value.is_floating_point())
            for name, value in self.model.state_dict().items()
        ]

    @paddle.no_grad()
    def update(self) -> None:
        """Update the averages with the model's weights, after an optimizer step."""
        self.step += 1
        decay = self.current_decay()
        # All of it works in place and does not wait for the device.
        for joined in self._joined:
            if joined.is_copied or not decay:
                joined.average.write(joined.value.read())
            else:
                joined.average.write(joined.average.read().lerp_(joined.value.read(), paddle.full([], 1.0 - decay)))
        for average, value, is_copied in self._separate if self._joined else self.pairs():
            if is_copied or not decay:
                paddle.assign(value, average)
            else:
                # A frozen weight stays exactly what it is, which it would not as d * average + (1 - d) * weight.
                average.add_((value - average).scale_(1.0 - decay))

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the names of the weights."""
        return self.average

    def set_state_dict(self, state: dict[str, Tensor], step: int) -> None:
        """Restore a state of `state_dict` after `step` updates."""
        for name, value in state.items():
            self.average[name].set_value(value)
        self.step = step
