"""What layers have to know of Paddle's mixed precision on GPUs, which casts what goes into its operations."""

import paddle
from paddle import Tensor

SMALL_TYPES = (paddle.float16, paddle.bfloat16)


class Float32:
    """Within, Paddle casts nothing to a smaller type, whatever mixed precision says around it.

    As paddle.amp.auto_cast(enable=False), which takes 30 microseconds to join its lists anew; here none is asked for.

    A class, not a decorated function, since Paddle's recording of static graphs goes through it and complains of those.
    """

    def __enter__(self) -> None:
        self.level: object | None = None
        if convolved_type():
            tracer = paddle.base.framework._dygraph_tracer()
            self.level, tracer._amp_level = tracer._amp_level, paddle.base.core.AmpLevel.O0

    def __exit__(self, *error: object) -> None:
        if self.level is not None:
            paddle.base.framework._dygraph_tracer()._amp_level = self.level


def convolved_type() -> str | None:
    """The smaller type that Paddle casts the inputs of convolutions to here; None where it casts nothing."""
    if not paddle.in_dynamic_mode():
        return None
    tracer = paddle.base.framework._dygraph_tracer()
    return None if tracer._amp_level == paddle.base.core.AmpLevel.O0 else tracer._amp_dtype


def like_convolved(x: Tensor) -> Tensor:
    """x in the type that a convolution's result has: added to it, a float32 tensor would make the sum float32."""
    dtype = convolved_type()
    return x.astype(dtype) if dtype and x.dtype != getattr(paddle, dtype) else x


def in_float32(x: Tensor) -> Tensor:
    """x, where it is of a smaller type in float32."""
    return x.astype("float32") if x.dtype in SMALL_TYPES else x
