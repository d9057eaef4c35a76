"""ReLU, sum, pooling and upsampling of maps (N, C, H, W)."""

import functools
from collections.abc import Callable
from typing import Any

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.onednn import DATA_TYPES, MAX_POOL, MEAN_POOL, Arg, Buffer, Shape
from ppdet.modeling.cpu.primitives import Pooling, Upsampling
from ppdet.modeling.cpu.tensors import (
    CHANNELS_FIRST,
    TYPES,
    Input,
    apply,
    given_gradients,
    like_input,
    load_saved,
    needs_gradient,
    save,
    state,
    to_channels_last,
)


def relu_gradient(y: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a ReLU's input: `gradient` where the ReLU's result y is above 0, else 0; all (N, H, W, C)."""
    data = DATA_TYPES[gradient.dtype]
    y = to_channels_last(y.transpose(CHANNELS_FIRST), data)
    n, h, w, c = gradient.shape
    result = paddle.empty(gradient.shape, gradient.dtype)
    arrays = {Arg.DST: y, Arg.DIFF_DST: gradient, Arg.DIFF_SRC: result}
    primitives.relu_backward((n, c, h, w), data)(arrays)
    return result


class ReluFunction(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        data = state.data
        source = to_channels_last(x, data)
        y = paddle.empty(source.shape, source.dtype)
        primitives.relu(tuple(x.shape), data)({Arg.SRC: source, Arg.DST: y})
        ctx.input = Input.of(x)
        save(ctx, y)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (y,) = load_saved(ctx)
        return like_input(relu_gradient(y, to_channels_last(dy, DATA_TYPES[y.dtype])), ctx.input.dtype)


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return apply(ReluFunction, (x,))


class AddReluFunction(PyLayer):
    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        data, shape = state.data, tuple(first.shape)
        sources = [to_channels_last(x, data) for x in (first, second)]
        y = paddle.empty(sources[0].shape, sources[0].dtype)
        arrays = {Arg.SRC: sources[0], Arg.SRC_1: sources[1], Arg.DST: y}
        primitives.add(shape, data, True)(arrays)
        ctx.inputs = [Input.of(first), Input.of(second)]
        save(ctx, y)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = load_saved(ctx)
        gradient = relu_gradient(y, to_channels_last(dy, DATA_TYPES[y.dtype]))
        # Autograd adds to gradients in place, so each input needs memory of its own.
        copies = (gradient, gradient.clone())
        return given_gradients(ctx.inputs, [like_input(copy, given.dtype) for copy, given in zip(copies, ctx.inputs)])


def add_relu(first: Tensor, second: Tensor) -> Tensor:
    """relu(first + second)."""
    return apply(AddReluFunction, (first, second))


class ForkFunction(PyLayer):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        source = to_channels_last(x, DATA_TYPES[x.dtype])
        ctx.dtype = x.dtype
        return source.transpose(CHANNELS_FIRST), source.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        data, shape = DATA_TYPES[ctx.dtype], tuple(first.shape)
        gradients = [to_channels_last(g, data) for g in (first, second)]
        result = paddle.empty(gradients[0].shape, gradients[0].dtype)
        arrays = {Arg.SRC: gradients[0], Arg.SRC_1: gradients[1], Arg.DST: result}
        primitives.add(shape, data, False)(arrays)
        return result.transpose(CHANNELS_FIRST)


def duplicate_with_summed_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """x twice, for two users. Paddle would add their gradients on one thread and in another layout."""
    return ForkFunction.apply(x) if needs_gradient(x) else (x, x)


class ResizeFunction(PyLayer):
    """Pooling or upsampling; `make(shape, data)` gives the compiled operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, make: Callable[[Shape, int], Pooling | Upsampling]) -> Tensor:
        data = state.data
        operation = make(tuple(x.shape), data)
        n, c, h, w = operation.y
        source, y = to_channels_last(x, data), paddle.empty([n, h, w, c], TYPES[data])
        ctx.mask = {Arg.WORKSPACE: Buffer(operation.workspace)} if operation.workspace else {}
        operation.forward({Arg.SRC: source, Arg.DST: y, **ctx.mask})
        ctx.operation, ctx.input, ctx.shape, ctx.data = operation, Input.of(x), source.shape, data
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        dx = paddle.empty(ctx.shape, TYPES[ctx.data])
        gradient = to_channels_last(dy, ctx.data)
        ctx.operation.backward({Arg.DIFF_DST: gradient, Arg.DIFF_SRC: dx, **ctx.mask})
        return like_input(dx, ctx.input.dtype)


def max_pool(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Max pooling with square windows."""
    make = functools.partial(primitives.pooling, algorithm=MAX_POOL, kernel=kernel, stride=stride, padding=padding)
    return apply(ResizeFunction, (x,), make)


def mean_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Mean pooling with square windows that lie inside the map; the last rows and columns may be left out."""
    make = functools.partial(primitives.pooling, algorithm=MEAN_POOL, kernel=kernel, stride=stride, padding=0)
    return apply(ResizeFunction, (x,), make)


def upsample_twice(x: Tensor) -> Tensor:
    """Nearest-neighbor upsampling to (N, C, 2H, 2W)."""
    return apply(ResizeFunction, (x,), primitives.upsampling)
