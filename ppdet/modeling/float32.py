"""Keeping what needs the range of float32 out of Paddle's mixed precision."""

from typing import Optional

import paddle
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
