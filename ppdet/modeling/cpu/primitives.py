"""The operations of a training step, compiled for a shape once and kept in bounded caches."""

import functools
from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.modeling.cpu import onednn
from ppdet.modeling.cpu.onednn import (
    ADD,
    BIAS,
    CONVOLUTION,
    DIFF_BIAS,
    DIFF_DST,
    DIFF_SCALE,
    DIFF_SHIFT,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    FLOAT32,
    FORWARD_TRAINING,
    MEAN,
    SCALE,
    SCALES_OF,
    SHIFT,
    SRC,
    SRC_1,
    VARIANCE,
    WEIGHTS,
    WORKSPACE,
    Attributes,
    Buffer,
    Plan,
    Primitive,
    channels_last,
    dense,
    dimensions,
)

# A training step of ResNet-50 at one image size has about fifty convolutions, which take some 40 kB each; what is not
# used for long goes.
KEPT = 128
Shape = tuple[int, int, int, int]


class ConvolutionSpec(NamedTuple):
    """A convolution of x (N, C, H, W) with weights (O, C / groups, kh, kw).

    `data` and `result`: oneDNN's type of input (weights are brought to it) and of output. `bias`, `residual`, `relu`:
    what is added to the result before a ReLU, if any. `trained`: backward passes will follow.
    """

    x: Shape
    weights: Shape
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    data: int
    result: int
    bias: bool
    residual: bool
    relu: bool
    trained: bool

    @property
    def y(self) -> Shape:
        sizes = [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.x[2:], self.padding, self.dilation, self.weights[2:], self.stride
            )
        ]
        return (self.x[0], self.weights[0], *sizes)

    @property
    def has_idle_taps(self) -> bool:
        """Whether some weights only ever meet padding, as 8 of 3x3 do where a map is one pixel."""
        geometry = zip(self.x[2:], self.y[2:], self.padding, self.dilation, self.weights[2:], self.stride)
        return any(
            not any(0 <= i * stride - pad + tap * dilation < size for i in range(count))
            for size, count, pad, dilation, kernel, stride in geometry
            for tap in range(kernel)
        )


class Convolution:
    """Forward and both backward passes of one `ConvolutionSpec`; arrays are (N, H, W, C), weights as Paddle has them.

    Raises:
        OneDNNError: there is no implementation.
    """

    def __init__(self, spec: ConvolutionSpec) -> None:
        self.spec = spec
        groups = spec.groups
        o, i, kh, kw = spec.weights
        self.weight_shape = (groups, o // groups, i, kh, kw) if groups > 1 else spec.weights
        self.geometry = (
            dimensions(spec.stride),
            dimensions([d - 1 for d in spec.dilation]),
            dimensions(spec.padding),
            dimensions(spec.padding),
        )
        self.x, self.y = channels_last(spec.x, spec.data), channels_last(spec.y, spec.result)
        self.dy = channels_last(spec.y, spec.data)
        self.plain_weights = dense(self.weight_shape)
        self.free_weights = onednn.Descriptor(self.weight_shape, spec.data, None)
        self.vector = dense((o,))
        self._backward_weights: dict[bool, Primitive] = {}
        attributes = Attributes()
        if spec.residual:
            attributes.add(channels_last(spec.y, spec.result))
        if spec.relu:
            attributes.relu()
        plan = self._forward_plan(self.y, spec.bias, attributes)
        arguments = {SRC: self.x, WEIGHTS: plan.descriptor(WEIGHTS), DST: self.y}
        self.forward = Primitive(plan, {**arguments, **({BIAS: self.vector} if spec.bias else {})})
        # Backward passes are compiled now, too: later it would be too late for Paddle to step in.
        passes = [self.forward]
        if spec.trained:
            passes += [self.backward_data, self.backward_weights(spec.bias)]
        self.is_fast = not any(one.plan.implementation.startswith("ref") for one in passes)

    def _forward_plan(self, y: object, bias: bool, attributes: Attributes | None) -> Plan:
        return Plan(
            "convolution_forward",
            FORWARD_TRAINING,
            CONVOLUTION,
            self.x,
            self.free_weights,
            self.vector if bias else None,
            y,
            *self.geometry,
            attributes=attributes,
        )

    @functools.cached_property
    def hint(self) -> Plan:
        """The plain forward pass that backward passes are planned after."""
        return self._forward_plan(self.dy, False, None)

    @functools.cached_property
    def backward_data(self) -> Primitive:
        plan = Plan(
            "convolution_backward_data", CONVOLUTION, self.x, self.free_weights, self.dy, *self.geometry, self.hint
        )
        return Primitive(plan, {DIFF_SRC: self.x, WEIGHTS: plan.descriptor(WEIGHTS), DIFF_DST: self.dy})

    def backward_weights(self, bias: bool) -> Primitive:
        """Gives the weights' gradient, and the bias' if `bias`."""
        if bias not in self._backward_weights:
            free = onednn.Descriptor(self.weight_shape, FLOAT32, None)
            vector = self.vector if bias else None
            plan = Plan(
                "convolution_backward_weights", CONVOLUTION, self.x, free, vector, self.dy, *self.geometry, self.hint
            )
            arguments = {SRC: self.x, DIFF_WEIGHTS: plan.descriptor(DIFF_WEIGHTS), DIFF_DST: self.dy}
            self._backward_weights[bias] = Primitive(plan, {**arguments, **({DIFF_BIAS: vector} if bias else {})})
        return self._backward_weights[bias]

    def pack(self, weight: Tensor, scale: Tensor | None, primitive: Primitive) -> Buffer:
        """Weights (O, C / groups, kh, kw), times scale (O,), in the layout that `primitive` reads."""
        layout = primitive.plan.descriptor(WEIGHTS)
        buffer = Buffer(layout)
        self._reorder(self.plain_weights, layout, scale, weight, buffer)
        return buffer

    def unpack(self, buffer: Buffer, scale: Tensor | None, primitive: Primitive) -> Tensor:
        """The gradient that `primitive` left in `buffer`, times scale (O,), as Paddle has weights."""
        gradient = paddle.empty(self.spec.weights, "float32")
        layout = primitive.plan.descriptor(DIFF_WEIGHTS)
        self._reorder(layout, self.plain_weights, scale, buffer, gradient)
        return gradient

    def _reorder(self, source: object, target: object, scale: Tensor | None, read: object, write: object) -> None:
        """Compiled anew for every call: that is a look-up in the library's own cache."""
        attributes = None
        arguments, arrays = {SRC: source, DST: target}, {SRC: read, DST: write}
        if scale is not None:
            # Weights of groups have a dimension more: (groups, O / groups, …), and a factor for each of the first two.
            attributes = Attributes().scale_rows(SRC, 2 if self.spec.groups > 1 else 1)
            arguments[SCALES_OF | SRC] = dense((self.spec.weights[0],))
            arrays[SCALES_OF | SRC] = scale
        engine = onednn.library().engine
        Primitive(Plan("reorder", source, engine, target, engine, attributes=attributes), arguments)(arrays)


@functools.lru_cache(maxsize=KEPT)
def convolution(spec: ConvolutionSpec) -> Convolution | None:
    """None where oneDNN has no implementation on this processor, or only the slow one that it tests the others with;
    and where in bfloat16 the gradient of some weights would be whatever the memory held."""
    if spec.data != onednn.FLOAT32 and spec.has_idle_taps:
        return None
    try:
        compiled = Convolution(spec)
    except onednn.OneDNNError as error:
        if error.status != onednn.UNIMPLEMENTED:
            raise
        return None
    return compiled if compiled.is_fast else None


class BatchNorm:
    """Batch norm of x (N, H, W, C), scaled and shifted, with a ReLU after it if `relu`.

    `given_statistics` takes mean and variance (C,) as they are; otherwise it gives those of the batch.
    """

    def __init__(self, shape: Shape, data: int, epsilon: float, given_statistics: bool, relu: bool) -> None:
        x, vector = channels_last(shape, data), dense((shape[1],))
        # use_global_stats, use_scale, use_shift, fuse_norm_relu
        flags = given_statistics * 1 | 2 | 4 | relu * 8
        plan = Plan("batch_normalization_forward", FORWARD_TRAINING, x, x, onednn.ctypes.c_float(epsilon), flags)
        arguments = {SRC: x, DST: x, MEAN: vector, VARIANCE: vector, SCALE: vector, SHIFT: vector}
        self.workspace = plan.descriptor(WORKSPACE) if relu else None
        mask = {WORKSPACE: self.workspace} if relu else {}
        self.forward = Primitive(plan, {**arguments, **mask})
        back = Plan(
            "batch_normalization_backward", onednn.BACKWARD, x, x, x, onednn.ctypes.c_float(epsilon), flags, plan
        )
        arguments = {SRC: x, MEAN: vector, VARIANCE: vector, SCALE: vector, DIFF_DST: x, DIFF_SRC: x}
        arguments.update({DIFF_SCALE: vector, DIFF_SHIFT: vector, **mask})
        self.backward = Primitive(back, arguments)


@functools.lru_cache(maxsize=KEPT)
def batch_norm(shape: Shape, data: int, epsilon: float, given_statistics: bool, relu: bool) -> BatchNorm:
    return BatchNorm(shape, data, epsilon, given_statistics, relu)


def relu_plan(shape: Shape, data: int) -> Plan:
    x, zero = channels_last(shape, data), onednn.ctypes.c_float(0.0)
    return Plan("eltwise_forward", FORWARD_TRAINING, onednn.RELU_FROM_RESULT, x, x, zero, zero)


@functools.lru_cache(maxsize=KEPT)
def relu(shape: Shape, data: int) -> Primitive:
    """SRC -> DST."""
    x = channels_last(shape, data)
    return Primitive(relu_plan(shape, data), {SRC: x, DST: x})


@functools.lru_cache(maxsize=KEPT)
def relu_backward(shape: Shape, data: int) -> Primitive:
    """(DST the ReLU's result, DIFF_DST) -> DIFF_SRC."""
    x, zero = channels_last(shape, data), onednn.ctypes.c_float(0.0)
    plan = Plan("eltwise_backward", onednn.RELU_FROM_RESULT, x, x, x, zero, zero, relu_plan(shape, data))
    return Primitive(plan, {DST: x, DIFF_DST: x, DIFF_SRC: x})


@functools.lru_cache(maxsize=KEPT)
def add(shape: Shape, data: int, relu: bool) -> Primitive:
    """(SRC, SRC_1) -> DST, which may be one of them; a ReLU after it if `relu`."""
    x = channels_last(shape, data)
    attributes = Attributes().relu() if relu else None
    return Primitive(Plan("binary", ADD, x, x, x, attributes=attributes), {SRC: x, SRC_1: x, DST: x})


@functools.lru_cache(maxsize=KEPT)
def add_affine(shape: Shape, data: int) -> Primitive:
    """DST += SRC * factor (C,) (SRC_1) + shift (C,) (`AFFINE_SHIFT`)."""
    x, vector = channels_last(shape, data), dense((1, shape[1], 1, 1))
    attributes = Attributes().add(vector).accumulate()
    return Primitive(
        Plan("binary", onednn.MULTIPLY, x, vector, x, attributes=attributes), {SRC: x, SRC_1: vector, DST: x}
    )


AFFINE_SHIFT = onednn.BINARY_POST_OP | SRC_1


@functools.lru_cache(maxsize=KEPT)
def reorder(shape: Shape, source: tuple[int, tuple[int, ...]], target: int) -> Primitive:
    """An array (N, C, H, W) of (type, strides in elements) -> (N, H, W, C) of type `target`."""
    kind, strides = source
    source, result = onednn.Descriptor(shape, kind, strides), channels_last(shape, target)
    engine = onednn.library().engine
    return Primitive(Plan("reorder", source, engine, result, engine), {SRC: source, DST: result})


class Pooling:
    """Max or mean over windows of an array (N, H, W, C)."""

    def __init__(self, shape: Shape, data: int, algorithm: int, kernel: int, stride: int, padding: int) -> None:
        n, c, *sizes = shape
        self.y = (n, c, *[(size + 2 * padding - kernel) // stride + 1 for size in sizes])
        x, y = channels_last(shape, data), channels_last(self.y, data)
        geometry = [dimensions((value, value)) for value in (stride, kernel, 0, padding, padding)]
        plan = Plan("pooling_forward", FORWARD_TRAINING, algorithm, x, y, *geometry)
        self.workspace = plan.descriptor(WORKSPACE) if algorithm == onednn.MAX_POOL else None
        mask = {WORKSPACE: self.workspace} if self.workspace else {}
        self.forward = Primitive(plan, {SRC: x, DST: y, **mask})
        back = Plan("pooling_backward", algorithm, x, y, *geometry, plan)
        self.backward = Primitive(back, {DIFF_SRC: x, DIFF_DST: y, **mask})


@functools.lru_cache(maxsize=KEPT)
def pooling(shape: Shape, data: int, algorithm: int, kernel: int, stride: int, padding: int) -> Pooling:
    return Pooling(shape, data, algorithm, kernel, stride, padding)


class Upsampling:
    """Nearest neighbour from (N, H, W, C) to (N, 2H, 2W, C)."""

    def __init__(self, shape: Shape, data: int) -> None:
        n, c, h, w = shape
        self.y = (n, c, 2 * h, 2 * w)
        x, y = channels_last(shape, data), channels_last(self.y, data)
        plan = Plan("resampling_forward", FORWARD_TRAINING, onednn.NEAREST, None, x, y)
        self.forward = Primitive(plan, {SRC: x, DST: y})
        back = Plan("resampling_backward", onednn.NEAREST, None, x, y, plan)
        self.backward = Primitive(back, {DIFF_SRC: x, DIFF_DST: y})


@functools.lru_cache(maxsize=KEPT)
def upsampling(shape: Shape, data: int) -> Upsampling:
    return Upsampling(shape, data)
