"""What layers have to know of Paddle's mixed precision on GPUs."""

from typing import Optional

import paddle
from paddle import Tensor
from paddle.amp.auto_cast import amp_state


class Float32:
    """Within, Paddle casts nothing to a smaller type, whatever mixed precision says around it.

    A class, not a decorated function, since Paddle's recording of static graphs goes through it and complains of those.
    """

    def __enter__(self) -> None:
        self.inner: Optional[object] = None
        if paddle.in_dynamic_mode() and amp_state():
            self.inner = paddle.amp.auto_cast(enable=False)
            self.inner.__enter__()

    def __exit__(self, *error: object) -> None:
        if self.inner is not None:
            self.inner.__exit__(*error)


def like_convolved(x: Tensor) -> Tensor:
    """x in the type that a convolution's result has: added to it, a float32 tensor would make the sum float32."""
    state = amp_state() if paddle.in_dynamic_mode() else None
    return x.astype(state["dtype"]) if state and state["enable"] else x
