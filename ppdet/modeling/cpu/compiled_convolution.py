"""Convolutions, compiled for one shape each: the forward pass and both backward passes."""

import functools
from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.modeling.cpu import onednn
from ppdet.modeling.cpu.onednn import (
    CONVOLUTION,
    FLOAT32,
    FORWARD_TRAINING,
    SCALES_OF,
    Arg,
    Arguments,
    Array,
    Attributes,
    Buffer,
    Descriptor,
    Handle,
    Plan,
    Primitive,
    Shape,
    channels_last,
    dense,
    dimensions,
)
from ppdet.modeling.cpu.primitives import KEPT


class ConvolutionSpec(NamedTuple):
    """Description of a convolution and its post-operations.

    x, weights: their shapes, (N, C, H, W) and (O, C / groups, height, width).
    stride, padding, dilation: vertical, then horizontal.
    data: oneDNN's type of the input, to which the weights are converted.
    result: oneDNN's type of the output.
    bias, residual, relu: whether a bias and another map are added to the result, and whether a ReLU follows.
    trained: whether backward passes will follow.
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
        """The shape of the result."""
        height, width = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                self.x[2:], self.padding, self.dilation, self.weights[2:], self.stride
            )
        )
        return self.x[0], self.weights[0], height, width

    @property
    def has_idle_taps(self) -> bool:
        """Whether some weights only meet padding, like 8 of the 3x3 weights on a map of one pixel."""
        geometry = zip(self.x[2:], self.y[2:], self.padding, self.dilation, self.weights[2:], self.stride)
        return any(
            not any(0 <= i * stride - pad + tap * dilation < size for i in range(count))
            for size, count, pad, dilation, kernel, stride in geometry
            for tap in range(kernel)
        )


class Convolution:
    """The forward pass and both backward passes of a convolution. Arrays are (N, H, W, C), weights are Paddle's.

    Raises:
        OneDNNError: oneDNN has no implementation.
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
        self.free_weights = Descriptor(self.weight_shape, spec.data, None)
        self.vector = dense((o,))
        self._backward_weights: dict[bool, Primitive] = {}
        attributes = Attributes()
        if spec.residual:
            attributes.add(channels_last(spec.y, spec.result))
        if spec.relu:
            attributes.relu()
        plan = self._forward_plan(self.y, spec.bias, attributes)
        arguments: Arguments = {Arg.SRC: self.x, Arg.WEIGHTS: plan.descriptor(Arg.WEIGHTS), Arg.DST: self.y}
        if spec.bias:
            arguments[Arg.BIAS] = self.vector
        self.forward = Primitive(plan, arguments)
        # Backward passes are compiled now too: later it would be too late to use Paddle instead.
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
        """The forward pass without post-operations, which the plans of backward passes need."""
        return self._forward_plan(self.dy, False, None)

    @functools.cached_property
    def backward_data(self) -> Primitive:
        """Computes the gradient of x."""
        plan = Plan(
            "convolution_backward_data", CONVOLUTION, self.x, self.free_weights, self.dy, *self.geometry, self.hint
        )
        return Primitive(plan, {Arg.DIFF_SRC: self.x, Arg.WEIGHTS: plan.descriptor(Arg.WEIGHTS), Arg.DIFF_DST: self.dy})

    def backward_weights(self, bias: bool) -> Primitive:
        """Computes the gradient of the weights, and of the bias if `bias` is set."""
        if bias not in self._backward_weights:
            free = Descriptor(self.weight_shape, FLOAT32, None)
            arrays = self.x, free, self.vector if bias else None, self.dy
            plan = Plan("convolution_backward_weights", CONVOLUTION, *arrays, *self.geometry, self.hint)
            layout = plan.descriptor(Arg.DIFF_WEIGHTS)
            arguments: Arguments = {Arg.SRC: self.x, Arg.DIFF_WEIGHTS: layout, Arg.DIFF_DST: self.dy}
            if bias:
                arguments[Arg.DIFF_BIAS] = self.vector
            self._backward_weights[bias] = Primitive(plan, arguments)
        return self._backward_weights[bias]

    def pack(self, weight: Tensor, scale: Tensor | None, primitive: Primitive) -> Buffer:
        """Weights (O, C / groups, height, width), times scale (O,) if given, in the layout that `primitive` reads."""
        layout = primitive.plan.descriptor(Arg.WEIGHTS)
        buffer = Buffer(layout)
        self._reorder(self.plain_weights, layout, scale, weight, buffer)
        return buffer

    def unpack(self, buffer: Buffer, scale: Tensor | None, primitive: Primitive) -> Tensor:
        """The gradient that `primitive` wrote to `buffer`, times scale (O,) if given, in Paddle's layout of weights."""
        gradient = paddle.empty(self.spec.weights, "float32")
        layout = primitive.plan.descriptor(Arg.DIFF_WEIGHTS)
        self._reorder(layout, self.plain_weights, scale, buffer, gradient)
        return gradient

    def _reorder(
        self,
        source: Descriptor | Handle,
        target: Descriptor | Handle,
        scale: Tensor | None,
        read: Array,
        write: Array,
    ) -> None:
        """Copy the array `read` of layout `source`, times scale, to `write` of layout `target`.

        The primitive is compiled for every call, which is a look-up in oneDNN's cache.
        """
        attributes = None
        arguments, arrays = {Arg.SRC: source, Arg.DST: target}, {Arg.SRC: read, Arg.DST: write}
        if scale is not None:
            # Weights of groups have one more dimension, (groups, O / groups, …), and a factor for each of both.
            attributes = Attributes().scale_rows(Arg.SRC, 2 if self.spec.groups > 1 else 1)
            arguments[SCALES_OF | Arg.SRC] = dense((self.spec.weights[0],))
            arrays[SCALES_OF | Arg.SRC] = scale
        engine = onednn.library().engine
        Primitive(Plan("reorder", source, engine, target, engine, attributes=attributes), arguments)(arrays)


@functools.lru_cache(maxsize=KEPT)
def convolution(spec: ConvolutionSpec) -> Convolution | None:
    """The compiled convolution, or None where Paddle has to compute it.

    That is where oneDNN has no implementation for this processor, or only its slow reference implementation; and in
    bfloat16 where some weights only meet padding, whose gradients oneDNN would leave uninitialized.
    """
    if spec.data != onednn.FLOAT32 and spec.has_idle_taps:
        return None
    try:
        compiled = Convolution(spec)
    except onednn.OneDNNError as error:
        if error.status != onednn.UNIMPLEMENTED:
            raise
        return None
    return compiled if compiled.is_fast else None
