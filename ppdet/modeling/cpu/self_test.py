"""The check that oneDNN computes what Paddle computes: every operation once, on small arrays, with its gradients."""

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.utils import unique_name

from ppdet.modeling.cpu import maps
from ppdet.modeling.cpu.convolution import convolve
from ppdet.modeling.cpu.norm import batch_norm, group_norm
from ppdet.modeling.cpu.tensors import compute_in


def difference(dtype: str) -> float:
    """The largest difference of a result or gradient from Paddle's: |ours - Paddle's| / |Paddle's| as vectors, or NaN.

    Paddle's random state and the numbers in names of layers stay the same: runs do not depend on whether it was called.

    Args:
        dtype: the type that oneDNN computes in, float32 or bfloat16. Paddle computes in float32.

    Raises:
        NotImplementedError, OneDNNError: oneDNN lacks an operation in this type on this processor.
    """
    state = paddle.get_rng_state()
    try:
        with paddle.enable_grad(), unique_name.guard():
            return float(np.max([compare(*case, dtype) for case in cases(np.random.default_rng(0))]))
    finally:
        paddle.set_rng_state(state)


def cases(rng: np.random.Generator) -> list[tuple[Callable, Callable, list[Tensor]]]:
    """For every operation: ours, Paddle's, and the inputs, whose gradients are compared.

    All numbers come from `rng`: with other numbers, a value may be so near to 0 that rounding decides what ReLU does.
    """

    def array(*shape: int) -> Tensor:
        tensor = paddle.to_tensor(rng.standard_normal(shape).astype(np.float32))
        tensor.stop_gradient = False
        return tensor

    x, y, even = array(2, 64, 7, 9), array(2, 64, 7, 9), array(2, 64, 6, 8)
    conv, strided = nn.Conv2D(64, 64, 3, padding=1, bias_attr=False), nn.Conv2D(64, 32, 1, stride=2)
    grouped = nn.Conv2D(64, 64, 3, padding=1, groups=4)
    for layer in (conv, strided, grouped):
        fan_in = int(np.prod(layer.weight.shape[1:]))
        layer.weight.set_value((rng.standard_normal(layer.weight.shape) * fan_in**-0.5).astype(np.float32))
    scale, shift = array(64).detach(), array(64).detach()
    theirs, ours = nn.BatchNorm2D(64), nn.BatchNorm2D(64)
    group = nn.GroupNorm(32, 64)

    def folded(x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        return F.relu(conv(x) * scale.reshape([1, -1, 1, 1]) + shift.reshape([1, -1, 1, 1]) + y)

    return [
        (
            lambda x, y, _: convolve(conv, x, residual=y, relu=True, scale=scale, shift=shift),
            folded,
            [x, y, conv.weight],
        ),
        (lambda x, *_: convolve(strided, x), lambda x, *_: strided(x), [x, strided.weight, strided.bias]),
        (lambda x, *_: convolve(grouped, x), lambda x, *_: grouped(x), [x, grouped.weight]),
        (
            lambda x: batch_norm(ours, x, relu=True).astype("float32") + ours._mean.sum() + ours._variance.sum(),
            lambda x: F.relu(theirs(x)) + theirs._mean.sum() + theirs._variance.sum(),
            [x],
        ),
        (lambda x, *_: group_norm(group, x, relu=True), lambda x, *_: F.relu(group(x)), [x, group.weight]),
        (lambda x: maps.add_relu(*maps.duplicate_with_summed_gradient(x)), lambda x: F.relu(2 * x), [x]),
        (maps.relu, F.relu, [x]),
        (lambda x: maps.max_pool(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1), [x]),
        (lambda x: maps.mean_pool(x, 2, 2), lambda x: F.avg_pool2d(x, 2, 2), [even]),
        (maps.upsample_twice, lambda x: F.interpolate(x, scale_factor=2), [x]),
    ]


def compare(ours: Callable, theirs: Callable, inputs: list[Tensor], dtype: str) -> float:
    """The largest difference of one operation, see `difference`."""
    values = []
    for function, kind in ((ours, dtype), (theirs, "float32")):
        for tensor in inputs:
            tensor.clear_grad()
        with compute_in(kind):
            result = function(*inputs)
            if result is None:
                raise NotImplementedError("it has no convolution for training on this processor")
            weights = paddle.cos(paddle.arange(result.size, dtype="float32")).reshape(result.shape)
            result.backward(weights.astype(result.dtype))
        values.append([tensor.astype("float32").numpy() for tensor in (result, *[t.grad for t in inputs])])
    return float(np.max([np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(*values)]))
