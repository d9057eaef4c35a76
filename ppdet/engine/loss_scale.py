"""Loss scaling for gradients in float16: "Mixed Precision Training" (Micikevicius et al., arXiv:1710.03740)."""

from collections.abc import Sequence

import paddle
from paddle import Tensor

START, LEAST, MOST = 2.0**16, 1.0, 2.0**24
GROWTH_INTERVAL = 2000  # updates without an overflow after which the scale doubles


class LossScale:
    """A factor of the loss that keeps small gradients above float16's smallest number.

    It is halved when a gradient overflows, and doubled after 2000 updates without. All of that stays on the device:
    paddle.amp.GradScaler would wait for the device in every step, to read whether a gradient overflowed.
    """

    def __init__(self, start: float = START) -> None:
        self.value = paddle.to_tensor(start, dtype="float32")
        self.good_steps = paddle.to_tensor(0, dtype="int32")

    @paddle.no_grad()
    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide gradients by the scale, in place."""
        inverse = 1.0 / self.value
        for gradient in gradients:
            gradient.multiply_(inverse)

    @paddle.no_grad()
    def adjust(self, finite: Tensor) -> None:
        """Take note of whether all gradients of this step, a boolean scalar, were finite."""
        good = paddle.where(finite, self.good_steps + 1, paddle.zeros_like(self.good_steps))
        grows = good >= GROWTH_INTERVAL
        one = paddle.ones_like(self.value)
        factor = paddle.where(finite, paddle.where(grows, 2.0 * one, one), 0.5 * one)
        self.value = (self.value * factor).clip(LEAST, MOST)
        self.good_steps = paddle.where(grows, paddle.zeros_like(good), good)

    def state(self) -> dict:
        """What a checkpoint keeps; reads from the device."""
        return {"scale": float(self.value), "good_steps": int(self.good_steps)}

    def load_state(self, state: dict) -> None:
        self.value = paddle.to_tensor(state["scale"], dtype="float32")
        self.good_steps = paddle.to_tensor(state["good_steps"], dtype="int32")
