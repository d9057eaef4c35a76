"""Convolution, with scale, shift, sum and ReLU after it."""

from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import compiled_convolution
from ppdet.modeling.cpu.compiled_convolution import Convolution, ConvolutionSpec
from ppdet.modeling.cpu.maps import relu_gradient
from ppdet.modeling.cpu.onednn import BINARY_POST_OP, DATA_TYPES, FLOAT32, Arg, Buffer
from ppdet.modeling.cpu.tensors import (
    CHANNELS_FIRST,
    TYPES,
    Input,
    apply,
    check_unchanged,
    given_gradients,
    like_input,
    load_saved,
    needs_gradient,
    packed_weights,
    save,
    state,
    to_channels_last,
)


class ConvolutionFunction(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        scale: Tensor | None,
        convolution: Convolution,
    ) -> Tensor:
        spec = convolution.spec
        packed = packed_weights(weight, scale)
        source = to_channels_last(x, spec.data)
        n, c, h, w = spec.y
        y = paddle.empty([n, h, w, c], TYPES[spec.result])
        forward = convolution.forward
        arrays = {Arg.SRC: source, Arg.WEIGHTS: packed.for_primitive(convolution, forward), Arg.DST: y}
        if bias is not None:
            arrays[Arg.BIAS] = bias
        if residual is not None:
            arrays[BINARY_POST_OP | Arg.SRC_1] = to_channels_last(residual, spec.result)
        forward(arrays)
        ctx.convolution, ctx.packed, ctx.weight_version = convolution, packed, weight.inplace_version
        ctx.inputs = [Input.of(tensor) for tensor in (x, weight, bias, residual, scale)]
        save(ctx, source, y) if spec.relu else save(ctx, source)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        convolution, spec = ctx.convolution, ctx.convolution.spec
        source, *results = load_saved(ctx)
        check_unchanged(ctx.packed.weight, ctx.weight_version)
        x, weight, bias, residual, _ = ctx.inputs
        gradient = to_channels_last(dy, spec.data)
        if results:
            gradient = relu_gradient(results[0], gradient)
        dx = dw = db = None
        if x.differentiable:
            dx = paddle.empty(source.shape, source.dtype)
            backward = convolution.backward_data
            weights = ctx.packed.for_primitive(convolution, backward)
            backward({Arg.DIFF_SRC: dx, Arg.WEIGHTS: weights, Arg.DIFF_DST: gradient})
            dx = like_input(dx, x.dtype)
        if weight.differentiable or bias.differentiable:
            backward = convolution.backward_weights(bias.differentiable)
            buffer = Buffer(backward.plan.descriptor(Arg.DIFF_WEIGHTS))
            arrays = {Arg.SRC: source, Arg.DIFF_WEIGHTS: buffer, Arg.DIFF_DST: gradient}
            if bias.differentiable:
                db = paddle.empty([spec.y[1]], "float32")
                arrays[Arg.DIFF_BIAS] = db
            backward(arrays)
            if weight.differentiable:
                dw = convolution.unpack(buffer, ctx.packed.scale, backward)
        added = like_input(gradient, residual.dtype) if residual.differentiable else None
        return given_gradients(ctx.inputs, (dx, dw, db, added, None))


def convolve(
    conv: nn.Conv2D,
    x: Tensor,
    *,
    residual: Tensor | None = None,
    relu: bool = False,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    float_result: bool = False,
) -> Tensor | None:
    """ReLU(conv(x) * scale + shift + residual), or None where oneDNN cannot compute it.

    Args:
        residual: added to the result, if given.
        relu: whether a ReLU follows.
        scale, shift: (O,), constants; they replace the convolution's bias.
        float_result: whether the result is float32 even if layers compute in bfloat16.
    """
    bias = conv.bias if shift is None else shift
    spec = convolution_spec(conv, x, bias, residual, relu, float_result)
    convolution = compiled_convolution.convolution(spec) if spec else None
    if convolution is None:
        return None
    return apply(ConvolutionFunction, (x, conv.weight, bias, residual, scale), convolution)


def convolution_spec(
    conv: nn.Conv2D, x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, float_result: bool
) -> ConvolutionSpec | None:
    """The description of a convolution for oneDNN, or None where oneDNN cannot compute it.

    oneDNN does not check the arrays that it gets, so shapes and types are checked here.
    """
    weight, padding, stride, dilation = conv.weight, pair(conv._padding), pair(conv._stride), pair(conv._dilation)
    if padding is None or stride is None or dilation is None:
        return None
    if conv._padding_mode != "zeros" or conv._data_format != "NCHW":
        return None
    if len(x.shape) != 4 or x.shape[1] != weight.shape[1] * conv._groups:
        return None
    if any(v is not None and not (v.dtype == paddle.float32 and v.is_contiguous()) for v in (weight, bias)):
        return None
    spec = ConvolutionSpec(
        tuple(x.shape),
        tuple(weight.shape),
        stride,
        padding,
        dilation,
        conv._groups,
        data=state.data,
        result=FLOAT32 if float_result else state.data,
        bias=bias is not None,
        residual=residual is not None,
        relu=relu,
        trained=needs_gradient(x, weight, bias, residual),
    )
    fits = residual is None or (tuple(residual.shape) == spec.y and residual.dtype in DATA_TYPES)
    return spec if fits and min(spec.y) > 0 else None


def pair(value: Any) -> tuple[int, int] | None:
    """A stride, dilation or padding of Paddle as (vertical, horizontal); None for other forms, such as "SAME"."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, str) or len(value) != 2 or not all(isinstance(v, int) for v in value):
        return None
    return value[0], value[1]
