"""Does oneDNN do here what Paddle does? Every function once, on small arrays, with its gradients."""

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppdet.modeling.cpu import functions


def difference() -> float:
    """Largest difference of any result or gradient, relative to the largest value of Paddle's own; NaN counts.

    Paddle's random state, which a training run depends on, is left as it was.
    """
    rng = np.random.default_rng(0)
    state = paddle.get_rng_state()
    with paddle.enable_grad(), functions.compute_in("float32"):
        errors = [compare(ours, theirs, inputs) for ours, theirs, inputs in cases(rng)]
    paddle.set_rng_state(state)
    return float(np.max(errors))


def cases(rng: np.random.Generator) -> list[tuple[Callable, Callable, list[Tensor]]]:
    def array(*shape: int) -> Tensor:
        tensor = paddle.to_tensor(rng.standard_normal(shape).astype(np.float32))
        tensor.stop_gradient = False
        return tensor

    x, y, even = array(2, 64, 7, 9), array(2, 64, 7, 9), array(2, 64, 6, 8)
    conv, strided = nn.Conv2D(64, 64, 3, padding=1, bias_attr=False), nn.Conv2D(64, 32, 1, stride=2)
    grouped = nn.Conv2D(64, 64, 3, padding=1, groups=4)
    scale, shift = array(64).detach(), array(64).detach()
    batch, ours = nn.BatchNorm2D(64), nn.BatchNorm2D(64)
    group = nn.GroupNorm(32, 64)

    def folded(x: Tensor, y: Tensor) -> Tensor:
        return F.relu(conv(x) * scale.reshape([1, -1, 1, 1]) + shift.reshape([1, -1, 1, 1]) + y)

    def forked(x: Tensor) -> Tensor:
        return functions.add_relu(*functions.fork(x))

    return [
        (
            lambda x, y, _: functions.convolve(conv, x, residual=y, relu=True, scale=scale, shift=shift),
            lambda x, y, _: folded(x, y),
            [x, y, conv.weight],
        ),
        (lambda x, *_: functions.convolve(strided, x), lambda x, *_: strided(x), [x, strided.weight, strided.bias]),
        (lambda x, *_: functions.convolve(grouped, x), lambda x, *_: grouped(x), [x, grouped.weight]),
        (
            lambda x: functions.batch_norm(ours, x, relu=True) + ours._mean.sum() + ours._variance.sum(),
            lambda x: F.relu(batch(x)) + batch._mean.sum() + batch._variance.sum(),
            [x],
        ),
        (lambda x, *_: functions.group_norm(group, x, relu=True), lambda x, *_: F.relu(group(x)), [x, group.weight]),
        (forked, lambda x: F.relu(2 * x), [x]),
        (lambda x: functions.max_pool(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1), [x]),
        (lambda x: functions.mean_pool(x, 2, 2), lambda x: F.avg_pool2d(x, 2, 2), [even]),
        (functions.upsample_twice, lambda x: F.interpolate(x, scale_factor=2), [x]),
    ]


def compare(ours: Callable, theirs: Callable, inputs: list[Tensor]) -> float:
    """Relative difference of ours(*inputs) from theirs(*inputs), and of the gradients of all inputs."""
    values = []
    for function in (ours, theirs):
        result = function(*inputs)
        weights = paddle.cos(paddle.arange(result.size, dtype="float32")).reshape(result.shape)
        for tensor in inputs:
            tensor.clear_grad()
        result.backward(weights)
        values.append([result, *[tensor.grad.clone() for tensor in inputs]])
    pairs = [(a.numpy(), b.numpy()) for a, b in zip(*values)]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
