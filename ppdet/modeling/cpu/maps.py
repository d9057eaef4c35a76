"""ReLU, sums, pooling and upsampling of maps."""

import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.onednn import (
    DATA_TYPES,
    DIFF_DST,
    DIFF_SRC,
    DST,
    MAX_POOL,
    MEAN_POOL,
    SRC,
    SRC_1,
    WORKSPACE,
    Buffer,
)
from ppdet.modeling.cpu.tensors import (
    CHANNELS_FIRST,
    TYPES,
    Input,
    apply,
    keep,
    kept,
    like_input,
    needs_gradient,
    pixels_first,
    state,
    wanted,
)


def relu_gradient(y: Tensor, gradient: Tensor) -> Tensor:
    """`gradient` where the ReLU's result y is positive, 0 elsewhere; all (N, H, W, C), and of the gradient's type."""
    data = DATA_TYPES[gradient.dtype]
    y = pixels_first(y.transpose(CHANNELS_FIRST), data)
    n, h, w, c = gradient.shape
    result = paddle.empty(gradient.shape, gradient.dtype)
    arrays = {DST: y, DIFF_DST: gradient, DIFF_SRC: result}
    primitives.relu_backward((n, c, h, w), data)(arrays)
    return result


class ReluFunction(PyLayer):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        data = state.data
        source = pixels_first(x, data)
        y = paddle.empty(source.shape, source.dtype)
        primitives.relu(tuple(x.shape), data)({SRC: source, DST: y})
        ctx.input = Input.of(x)
        keep(ctx, y)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        (y,) = kept(ctx)
        return like_input(relu_gradient(y, pixels_first(dy, DATA_TYPES[y.dtype])), ctx.input.dtype)


def relu(x: Tensor) -> Tensor:
    return apply(ReluFunction, (x,))


class AddReluFunction(PyLayer):
    @staticmethod
    def forward(ctx: object, first: Tensor, second: Tensor) -> Tensor:
        data, shape = state.data, tuple(first.shape)
        sources = [pixels_first(x, data) for x in (first, second)]
        y = paddle.empty(sources[0].shape, sources[0].dtype)
        arrays = {SRC: sources[0], SRC_1: sources[1], DST: y}
        primitives.add(shape, data, True)(arrays)
        ctx.inputs = [Input.of(first), Input.of(second)]
        keep(ctx, y)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        (y,) = kept(ctx)
        gradient = relu_gradient(y, pixels_first(dy, DATA_TYPES[y.dtype]))
        # Autograd adds to what it is given in place: each input gets memory of its own.
        copies = (gradient, gradient.clone())
        return wanted(ctx.inputs, [like_input(copy, given.dtype) for copy, given in zip(copies, ctx.inputs)])


def add_relu(first: Tensor, second: Tensor) -> Tensor:
    """relu(first + second)."""
    return apply(AddReluFunction, (first, second))


class ForkFunction(PyLayer):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> tuple[Tensor, Tensor]:
        source = pixels_first(x, DATA_TYPES[x.dtype])
        ctx.dtype = x.dtype
        return source.transpose(CHANNELS_FIRST), source.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, first: Tensor, second: Tensor) -> Tensor:
        data, shape = DATA_TYPES[ctx.dtype], tuple(first.shape)
        gradients = [pixels_first(g, data) for g in (first, second)]
        result = paddle.empty(gradients[0].shape, gradients[0].dtype)
        arrays = {SRC: gradients[0], SRC_1: gradients[1], DST: result}
        primitives.add(shape, data, False)(arrays)
        return result.transpose(CHANNELS_FIRST)


def fork(x: Tensor) -> tuple[Tensor, Tensor]:
    """x twice, for two users: their gradients are added here, not by Paddle on one thread and in another layout."""
    return ForkFunction.apply(x) if needs_gradient(x) else (x, x)


class PoolingFunction(PyLayer):
    @staticmethod
    def forward(ctx: object, x: Tensor, algorithm: int, kernel: int, stride: int, padding: int) -> Tensor:
        data = state.data
        pooling = primitives.pooling(tuple(x.shape), data, algorithm, kernel, stride, padding)
        n, c, h, w = pooling.y
        source, y = pixels_first(x, data), paddle.empty([n, h, w, c], TYPES[data])
        ctx.mask = {}
        if pooling.workspace:
            ctx.mask = {WORKSPACE: Buffer(pooling.workspace)}
        pooling.forward({SRC: source, DST: y, **ctx.mask})
        ctx.pooling, ctx.input, ctx.shape, ctx.data = pooling, Input.of(x), source.shape, data
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        dx = paddle.empty(ctx.shape, TYPES[ctx.data])
        gradient = pixels_first(dy, ctx.data)
        ctx.pooling.backward({DIFF_DST: gradient, DIFF_SRC: dx, **ctx.mask})
        return like_input(dx, ctx.input.dtype)


def max_pool(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    return apply(PoolingFunction, (x,), MAX_POOL, kernel, stride, padding)


def mean_pool(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Mean over windows that lie inside; what is left at the lower and right end counts nowhere."""
    return apply(PoolingFunction, (x,), MEAN_POOL, kernel, stride, 0)


class UpsamplingFunction(PyLayer):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        data = state.data
        ctx.upsampling, ctx.input, ctx.data = primitives.upsampling(tuple(x.shape), data), Input.of(x), data
        n, c, h, w = ctx.upsampling.y
        source, y = pixels_first(x, data), paddle.empty([n, h, w, c], TYPES[data])
        ctx.shape = source.shape
        ctx.upsampling.forward({SRC: source, DST: y})
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        dx = paddle.empty(ctx.shape, TYPES[ctx.data])
        gradient = pixels_first(dy, ctx.data)
        ctx.upsampling.backward({DIFF_DST: gradient, DIFF_SRC: dx})
        return like_input(dx, ctx.input.dtype)


def upsample_twice(x: Tensor) -> Tensor:
    """Nearest neighbour, (N, C, H, W) -> (N, C, 2H, 2W)."""
    return apply(UpsamplingFunction, (x,))
