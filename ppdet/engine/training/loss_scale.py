"""Loss scaling for gradients in float16 (Micikevicius et al., "Mixed Precision Training", arXiv:1710.03740)."""

from collections.abc import Sequence

import paddle
from paddle import Tensor

from ppdet.optimizer.joined import divide

START, LEAST, MOST = 2.0**16, 1.0, 2.0**24
GROWTH_INTERVAL = 2000  # updates without an overflow after which the scale doubles


class LossScale:
    """A factor by which the loss is multiplied, so that small gradients are not rounded to 0 in float16.

    It is halved when a gradient overflows, and doubled after 2000 updates without overflow. All of this stays on the
    device; paddle.amp.GradScaler would wait for the device in every step, to read whether a gradient overflowed.

    Attributes:
        value: the factor, a tensor on the device.
        good_steps: updates since the last overflow or doubling, a tensor on the device.
    """

    def __init__(self, start: float = START) -> None:
        self.value: Tensor
        self.good_steps: Tensor
        # Further inputs that the kernel requires; their values do not matter.
        self._gradients, self._bad_steps = paddle.zeros([1]), paddle.zeros([1], dtype="int32")
        self.load_state({"scale": start, "good_steps": 0})

    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients by the scale, in place. Returns a boolean: whether all of them are finite (see `divide`)."""
        return divide(gradients, self.value)

    @paddle.no_grad()
    def adjust(self, finite: Tensor) -> None:
        """Update the scale after a step, given whether all its gradients were finite (one boolean)."""
        value = self.value.clone()
        # Paddle's kernel for static graphs also fills gradients with zeros and counts steps that overflowed.
        paddle._C_ops.update_loss_scaling_(
            *([self._gradients], paddle.logical_not(finite), value, self.good_steps, self._bad_steps),
            *(GROWTH_INTERVAL, 1, 2.0, 0.5, False),
        )
        self.value = value.clip(LEAST, MOST).reshape([])

    def state(self) -> dict:
        """Return the state for a checkpoint, read from the device."""
        return {"scale": self.value.item(), "good_steps": self.good_steps.item()}

    def load_state(self, state: dict) -> None:
        """Restore a state of `state()`."""
        self.value = paddle.to_tensor(state["scale"], dtype="float32")
        self.good_steps = paddle.to_tensor([state["good_steps"]], dtype="int32")


@paddle.no_grad()
def all_finite(gradients: Sequence[Tensor]) -> Tensor:
    """Return a boolean tensor: whether all gradients are finite. They are only read, which is faster on a CPU."""
    # A sum of squares is finite only if all of its terms are. This kernel of gradient clipping reads memory once.
    return paddle.isfinite(paddle.stack([paddle._C_ops.squared_l2_norm(g).reshape([]) for g in gradients])).all()
