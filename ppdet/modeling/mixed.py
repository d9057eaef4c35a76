"""Helpers for layers under Paddle's mixed precision (paddle.amp), which casts the inputs of operations."""

import paddle
from paddle import Tensor

SMALL_TYPES = (paddle.float16, paddle.bfloat16)


class Float32:
    """A context in which mixed precision does not cast anything to float16 or bfloat16.

    It has the effect of paddle.amp.auto_cast(enable=False), which takes 30 microseconds to build its lists of
    operations; this context needs none. It is a class instead of a generator, since Paddle's recording of static graphs
    rejects those.
    """

    def __enter__(self) -> None:
        self.level: object | None = None
        if autocast_dtype():
            tracer = paddle.base.framework._dygraph_tracer()
            self.level, tracer._amp_level = tracer._amp_level, paddle.base.core.AmpLevel.O0

    def __exit__(self, *error: object) -> None:
        if self.level is not None:
            paddle.base.framework._dygraph_tracer()._amp_level = self.level


def autocast_dtype() -> str | None:
    """The type, float16 or bfloat16, to which mixed precision casts the inputs of convolutions; None if it is off."""
    if not paddle.in_dynamic_mode():
        return None
    tracer = paddle.base.framework._dygraph_tracer()
    return None if tracer._amp_level == paddle.base.core.AmpLevel.O0 else tracer._amp_dtype


def like_convolved(x: Tensor) -> Tensor:
    """x in the type of a convolution's result. Adding a float32 tensor to that result would make the sum float32."""
    dtype = autocast_dtype()
    return x.astype(dtype) if dtype and x.dtype != getattr(paddle, dtype) else x


def in_float32(x: Tensor) -> Tensor:
    """x, cast to float32 if it is float16 or bfloat16."""
    return x.astype("float32") if x.dtype in SMALL_TYPES else x
