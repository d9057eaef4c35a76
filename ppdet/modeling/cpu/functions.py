"""Differentiable operations on Paddle tensors (N, C, H, W), computed by oneDNN.

Results are views of channels-last memory: the shape stays (N, C, H, W), the channels of a pixel lie side by side, as
oneDNN's fastest kernels want them. What comes out of one of these functions goes into the next without a copy; every
operation of Paddle accepts it as well, at the price of one.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.onednn import (
    BFLOAT16,
    BIAS,
    DATA_TYPES,
    DIFF_BIAS,
    DIFF_DST,
    DIFF_SCALE,
    DIFF_SHIFT,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    FLOAT32,
    MAX_POOL,
    MEAN,
    MEAN_POOL,
    SCALE,
    SHIFT,
    SRC,
    SRC_1,
    VARIANCE,
    WEIGHTS,
    WORKSPACE,
    Buffer,
    Primitive,
    same_layout,
)
from ppdet.modeling.cpu.primitives import AFFINE_SHIFT, Convolution, ConvolutionSpec

TYPES = {kind: dtype for dtype, kind in DATA_TYPES.items()}
CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class State(threading.local):
    """What the layers of one thread share: the type they compute in, and weights already in oneDNN's layout."""

    data = FLOAT32
    packed: Optional[dict] = None


state = State()


@contextlib.contextmanager
def compute_in(dtype: str) -> Iterator[None]:
    """Layers multiply in this type, float32 or bfloat16, and add in float32; parameters stay float32."""
    before, state.data = state.data, BFLOAT16 if dtype == "bfloat16" else FLOAT32
    try:
        yield
    finally:
        state.data = before


@contextlib.contextmanager
def weights_unchanged() -> Iterator[None]:
    """Weights do not change within: each is brought into oneDNN's layout once, however often it is used."""
    before, state.packed = state.packed, {} if state.packed is None else state.packed
    try:
        yield
    finally:
        state.packed = before


class PackedWeights:
    """A layer's weights, times a factor of each output channel if any, in every layout that was asked for."""

    def __init__(self, weight: Tensor, scale: Optional[Tensor]) -> None:
        self.weight, self.scale = weight, scale
        self.buffers: list[tuple[object, Buffer]] = []

    def layout_of(self, convolution: Convolution, primitive: Primitive) -> Buffer:
        layout = primitive.plan.descriptor(WEIGHTS)
        for plan, buffer in self.buffers:
            if same_layout(plan.descriptor(WEIGHTS), layout):
                return buffer
        self.buffers.append((primitive.plan, convolution.pack(self.weight, self.scale, primitive)))
        return self.buffers[-1][1]


def packed_weights(weight: Tensor, scale: Optional[Tensor]) -> PackedWeights:
    if state.packed is None:
        return PackedWeights(weight, scale)
    # The entry keeps weight and scale alive, so that no other tensor can have their ids.
    key = (id(weight), id(scale))
    return state.packed.setdefault(key, PackedWeights(weight, scale))


def pixels_first(x: Tensor, data: int) -> Tensor:
    """The values of x (N, C, H, W) as a dense tensor (N, H, W, C) of oneDNN's type `data`; no copy where it is one."""
    view = x.transpose(CHANNELS_LAST)
    if view.is_contiguous() and DATA_TYPES[x.dtype] == data:
        return view
    result = paddle.empty(view.shape, TYPES[data])
    source = (DATA_TYPES[x.dtype], tuple(x.strides))
    primitives.reorder(tuple(x.shape), source, data)({SRC: x, DST: result})
    return result


def like_input(gradient: Tensor, dtype: object) -> Tensor:
    """A gradient (N, H, W, C) as the view (N, C, H, W) of type `dtype` that autograd expects."""
    view = gradient.transpose(CHANNELS_FIRST)
    return view if view.dtype == dtype else pixels_first(view, DATA_TYPES[dtype]).transpose(CHANNELS_FIRST)


def needs_gradient(*tensors: Optional[Tensor]) -> bool:
    return paddle.is_grad_enabled() and any(t is not None and not t.stop_gradient for t in tensors)


def apply(function: type[PyLayer], tensors: tuple, *options: object) -> Tensor:
    """`function`, recorded for a backward pass only where one is needed."""
    if needs_gradient(*tensors):
        return function.apply(*tensors, *options)
    with paddle.no_grad():
        return function.forward(Forgetful(), *tensors, *options)


class Forgetful:
    """Stands in for the context of a function whose backward pass will not be asked for."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        pass


class Input(NamedTuple):
    """What the backward pass has to know of an input: its type (None for one that was not given), and if it asks."""

    dtype: object
    differentiable: bool

    @classmethod
    def of(cls, tensor: Optional[Tensor]) -> "Input":
        return cls(None, False) if tensor is None else cls(tensor.dtype, not tensor.stop_gradient)


class UnknownLayer(ValueError):
    """A layer that this package does not know."""


class ConvolutionOptions(NamedTuple):
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    relu: bool
    float_result: bool


class ConvolutionFunction(PyLayer):
    @staticmethod
    def forward(
        ctx: object,
        x: Tensor,
        weight: Tensor,
        bias: Optional[Tensor],
        residual: Optional[Tensor],
        scale: Optional[Tensor],
        options: ConvolutionOptions,
    ) -> Tensor:
        data = state.data
        result = FLOAT32 if options.float_result else data
        spec = ConvolutionSpec(
            tuple(x.shape),
            tuple(weight.shape),
            *options[:4],
            data=data,
            result=result,
            bias=bias is not None,
            residual=residual is not None,
            relu=options.relu,
        )
        convolution = primitives.convolution(spec)
        packed = packed_weights(weight, scale)
        source = pixels_first(x, data)
        n, c, h, w = spec.y
        y = paddle.empty([n, h, w, c], TYPES[result])
        forward = convolution.forward
        arrays = {SRC: source, WEIGHTS: packed.layout_of(convolution, forward), DST: y}
        if bias is not None:
            arrays[BIAS] = bias
        if residual is not None:
            added = pixels_first(residual, result)
            arrays[primitives.onednn.BINARY_POST_OP | SRC_1] = added
        forward(arrays)
        ctx.convolution, ctx.packed = convolution, packed
        ctx.inputs = [Input.of(tensor) for tensor in (x, weight, bias, residual, scale)]
        ctx.save_for_backward(source, y) if options.relu else ctx.save_for_backward(source)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        convolution, spec = ctx.convolution, ctx.convolution.spec
        source, *results = ctx.saved_tensor()
        of_x, of_weight, of_bias, of_residual, _ = ctx.inputs
        gradient = pixels_first(dy, spec.data)
        if results:
            gradient = relu_gradient(results[0], gradient, spec.y, spec.data)
        dx = dw = db = None
        if of_x.differentiable:
            dx = paddle.empty(source.shape, source.dtype)
            backward = convolution.backward_data
            weights = ctx.packed.layout_of(convolution, backward)
            backward({DIFF_SRC: dx, WEIGHTS: weights, DIFF_DST: gradient})
            dx = like_input(dx, of_x.dtype)
        if of_weight.differentiable or of_bias.differentiable:
            backward = convolution.backward_weights(of_bias.differentiable)
            buffer = Buffer(backward.plan.descriptor(DIFF_WEIGHTS))
            arrays = {SRC: source, DIFF_WEIGHTS: buffer, DIFF_DST: gradient}
            if of_bias.differentiable:
                db = paddle.empty([spec.y[1]], "float32")
                arrays[DIFF_BIAS] = db
            backward(arrays)
            if of_weight.differentiable:
                dw = convolution.unpack(buffer, ctx.packed.scale, backward)
        added = like_input(gradient, of_residual.dtype) if of_residual.differentiable else None
        return tuple(g for given, g in zip(ctx.inputs, (dx, dw, db, added, None)) if given.dtype is not None)


def relu_gradient(y: Tensor, gradient: Tensor, shape: primitives.Shape, data: int) -> Tensor:
    """`gradient` where the ReLU's result y is positive, 0 elsewhere; all (N, H, W, C)."""
    y = pixels_first(y.transpose(CHANNELS_FIRST), data)
    result = paddle.empty(gradient.shape, gradient.dtype)
    arrays = {DST: y, DIFF_DST: gradient, DIFF_SRC: result}
    primitives.relu_backward(shape, data)(arrays)
    return result


def convolve(
    conv: nn.Conv2D,
    x: Tensor,
    *,
    residual: Optional[Tensor] = None,
    relu: bool = False,
    scale: Optional[Tensor] = None,
    shift: Optional[Tensor] = None,
    float_result: bool = False,
) -> Tensor:
    """relu(conv(x) * scale + shift + residual); scale and shift (O,) are constants, and take the place of a bias.

    Args:
        float_result: the result is float32, whatever the layers compute in.

    Raises:
        UnknownLayer: the layer pads in another way than with zeros, or has another layout than (N, C, H, W).
        OneDNNError: oneDNN has no fast implementation.
    """
    if conv._padding_mode != "zeros" or conv._data_format != "NCHW" or isinstance(conv._padding, str):
        raise UnknownLayer(f"padding {conv._padding_mode} {conv._padding}, layout {conv._data_format}")

    def pair(value: object) -> tuple[int, int]:
        return (value, value) if isinstance(value, int) else tuple(value)

    options = ConvolutionOptions(
        pair(conv._stride), pair(conv._padding), pair(conv._dilation), conv._groups, relu, float_result
    )
    bias = conv.bias if shift is None else shift
    return apply(ConvolutionFunction, (x, conv.weight, bias, residual, scale), options)


class BatchNormFunction(PyLayer):
    """Also updates the running statistics, as Paddle does: new = momentum * old + (1 - momentum) * of the batch."""

    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2D, relu: bool) -> Tensor:
        data = state.data
        shape = tuple(x.shape)
        primitive = primitives.batch_norm(shape, data, norm._epsilon, False, relu)
        source = pixels_first(x, data)
        y = paddle.empty(source.shape, source.dtype)
        mean, variance = paddle.empty([shape[1]], "float32"), paddle.empty([shape[1]], "float32")
        arrays = {SRC: source, DST: y, MEAN: mean, VARIANCE: variance}
        arrays.update({SCALE: weight, SHIFT: bias})
        ctx.mask = {}
        if relu:
            ctx.mask = {WORKSPACE: Buffer(primitive.workspace)}
        primitive.forward({**arrays, **ctx.mask})
        for running, batch in ((norm._mean, mean), (norm._variance, variance)):
            running.scale_(norm._momentum).add_(batch * (1.0 - norm._momentum))
        ctx.primitive, ctx.input = primitive, Input.of(x)
        ctx.save_for_backward(source, mean, variance, weight)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        source, mean, variance, weight = ctx.saved_tensor()
        gradient = pixels_first(dy, DATA_TYPES[source.dtype])
        dx = paddle.empty(source.shape, source.dtype)
        dw, db = paddle.empty(weight.shape, "float32"), paddle.empty(weight.shape, "float32")
        arrays = {SRC: source, MEAN: mean, VARIANCE: variance}
        arrays.update({SCALE: weight, DIFF_DST: gradient, DIFF_SRC: dx})
        arrays.update({DIFF_SCALE: dw, DIFF_SHIFT: db, **ctx.mask})
        ctx.primitive.backward(arrays)
        return like_input(dx, ctx.input.dtype), dw, db


def batch_norm(norm: nn.BatchNorm2D, x: Tensor, *, relu: bool = False) -> Tensor:
    """relu(norm(x)) with the statistics of the batch."""
    return apply(BatchNormFunction, (x, norm.weight, norm.bias), norm, relu)


class GroupNormFunction(PyLayer):
    """Made of batch norms: oneDNN's group norm has no backward pass worth the name.

    With the channels of one image as a batch, batch norm gives each channel's mean and variance, from which those of a
    group follow; given them, it normalises. What the gradient of a group's mean and variance adds is an affine
    function of x in each channel.
    """

    @staticmethod
    def forward(
        ctx: object, x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, relu: bool
    ) -> Tensor:
        data = state.data
        n, c, h, w = x.shape
        one = (1, c, h, w)
        statistics = primitives.batch_norm(one, data, epsilon, False, False).forward
        primitive = primitives.batch_norm(one, data, epsilon, True, relu)
        source = pixels_first(x, data)
        y = paddle.empty(source.shape, source.dtype)
        moments = np.empty((n, 2, c), np.float32)
        ctx.masks = []
        affine = {SCALE: weight, SHIFT: bias}
        for i, image, result in zip(range(n), addresses(source), addresses(y)):
            mean, variance = moments[i]
            arrays = {SRC: image, DST: result, MEAN: mean, VARIANCE: variance, **affine}
            statistics(arrays)
            mean[:], variance[:] = group_moments(mean, variance, groups)
            if relu:
                ctx.masks.append(Buffer(primitive.workspace))
                arrays[WORKSPACE] = ctx.masks[-1]
            primitive.forward(arrays)
        ctx.primitive, ctx.input, ctx.moments = primitive, Input.of(x), moments
        ctx.groups, ctx.epsilon = groups, epsilon
        ctx.save_for_backward(source, weight)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        source, weight = ctx.saved_tensor()
        n, h, w, c = source.shape
        data = DATA_TYPES[source.dtype]
        gradient = pixels_first(dy, data)
        dx = paddle.empty(source.shape, source.dtype)
        correct = primitives.add_affine((1, c, h, w), data)
        scale = weight.numpy()
        of_affine = np.empty((n, 2, c), np.float32)
        images = zip(range(n), addresses(source), addresses(gradient), addresses(dx))
        for i, image, incoming, result in images:
            mean, variance = ctx.moments[i]
            of_scale, of_shift = of_affine[i]
            arrays = {SRC: image, MEAN: mean, VARIANCE: variance, SCALE: scale}
            arrays.update({DIFF_DST: incoming, DIFF_SRC: result})
            arrays.update({DIFF_SCALE: of_scale, DIFF_SHIFT: of_shift})
            if ctx.masks:
                arrays[WORKSPACE] = ctx.masks[i]
            ctx.primitive.backward(arrays)
            # With v the inverse deviation and z = (x - mean) v:
            # dx = v scale dy - v mean(scale dy) - v z mean(scale dy z), where the means are over the group.
            # The first term is there; the others are factor * x + shift.
            inverse = 1.0 / np.sqrt(variance + ctx.epsilon)
            per_group = h * w * c // ctx.groups
            sums = [(scale * v).reshape(ctx.groups, -1).sum(axis=1) / per_group for v in (of_shift, of_scale)]
            of_mean, of_deviation = (np.repeat(s, c // ctx.groups) for s in sums)
            factor = (-inverse * inverse * of_deviation).astype(np.float32)
            shift = (-inverse * of_mean - factor * mean).astype(np.float32)
            correct({SRC: image, SRC_1: factor, AFFINE_SHIFT: shift, DST: result})
        dw, db = (paddle.to_tensor(v) for v in of_affine.sum(axis=0))
        return like_input(dx, ctx.input.dtype), dw, db


def addresses(images: Tensor) -> range:
    """Where each image of a dense tensor (N, H, W, C) begins."""
    step = images[0].size * images.element_size()
    return range(images.data_ptr(), images.data_ptr() + step * images.shape[0], step)


def group_moments(mean: np.ndarray, variance: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (C,) of each channel's group, from those of each channel."""
    means, variances = mean.reshape(groups, -1).astype(np.float64), variance.reshape(groups, -1)
    size = means.shape[1]
    total = variances.mean(axis=1) + means.var(axis=1)
    return np.repeat(means.mean(axis=1), size), np.repeat(total, size)


def group_norm(norm: nn.GroupNorm, x: Tensor, *, relu: bool = False) -> Tensor:
    """relu(norm(x))."""
    return apply(GroupNormFunction, (x, norm.weight, norm.bias), norm._num_groups, norm._epsilon, relu)


class ReluFunction(PyLayer):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        data = state.data
        source = pixels_first(x, data)
        y = paddle.empty(source.shape, source.dtype)
        primitives.relu(tuple(x.shape), data)({SRC: source, DST: y})
        ctx.input = Input.of(x)
        ctx.save_for_backward(y)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> Tensor:
        (y,) = ctx.saved_tensor()
        data = DATA_TYPES[y.dtype]
        return like_input(relu_gradient(y, pixels_first(dy, data), tuple(dy.shape), data), ctx.input.dtype)


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
        ctx.save_for_backward(y)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        (y,) = ctx.saved_tensor()
        data = DATA_TYPES[y.dtype]
        n, h, w, c = y.shape
        gradient = relu_gradient(y, pixels_first(dy, data), (n, c, h, w), data)
        # Autograd adds to what it is given in place: each input gets memory of its own.
        copies = (gradient, gradient.clone())
        return tuple(like_input(copy, given.dtype) for copy, given in zip(copies, ctx.inputs))


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
