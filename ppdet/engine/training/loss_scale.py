"""Loss scaling for gradients in float16: "Mixed Precision Training" (Micikevicius et al., arXiv:1710.03740)."""

from collections.abc import Sequence

import paddle
from paddle import Tensor

from ppdet.optimizer.joined import divide

START, LEAST, MOST = 2.0**16, 1.0, 2.0**24
GROWTH_INTERVAL = 2000  # updates without an overflow after which the scale doubles


class LossScale:
    """A factor of the loss that keeps small gradients above float16's smallest number.

    It is halved when a gradient overflows, and doubled after 2000 updates without. All of that stays on the device:
    paddle.amp.GradScaler would wait for the device in every step, to read whether a gradient overflowed.
    """

    def __init__(self, start: float = START) -> None:
        self.load_state({"scale": start, "good_steps": 0})

    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients by the scale, in place; see `divide` for what it returns."""
        return divide(gradients, self.value)

    @paddle.no_grad()
    def adjust(self, finite: Tensor) -> None:
        """Take note of whether all gradients of this step were finite, one boolean."""
        value = self.value.clone()
        # Paddle's kernel for static graphs: it fills the gradients with zeros where one overflowed, and counts steps in
        # a row that did. Neither is of use here.
        paddle._C_ops.update_loss_scaling_(
            *([self._filled], paddle.logical_not(finite), value, self.good_steps, self._bad_steps),
            *(GROWTH_INTERVAL, 1, 2.0, 0.5, False),
        )
        self.value = value.clip(LEAST, MOST).reshape([])

    def state(self) -> dict:
        """What a checkpoint keeps; reads from the device."""
        return {"scale": self.value.item(), "good_steps": self.good_steps.item()}

    def load_state(self, state: dict) -> None:
        self.value = paddle.to_tensor(state["scale"], dtype="float32")
        self.good_steps = paddle.to_tensor([state["good_steps"]], dtype="int32")
        self._filled, self._bad_steps = paddle.zeros([1]), paddle.zeros([1], dtype="int32")


@paddle.no_grad()
def all_finite(gradients: Sequence[Tensor]) -> Tensor:
    """What `divide` returns, of gradients that stay as they are. They are only read: faster on a CPU."""
    # A sum of squares is finite only where all of its terms are. This kernel, which gradient clipping uses, takes one
    # pass over the memory.
    return paddle.isfinite(paddle.stack([paddle._C_ops.squared_l2_norm(g).reshape([]) for g in gradients])).all()
