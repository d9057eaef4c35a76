"""Convolution, with what follows it."""

import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.maps import relu_gradient
from ppdet.modeling.cpu.onednn import (
    BIAS,
    BINARY_POST_OP,
    DATA_TYPES,
    DIFF_BIAS,
    DIFF_DST,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    FLOAT32,
    SRC,
    SRC_1,
    WEIGHTS,
    Buffer,
)
from ppdet.modeling.cpu.primitives import Convolution, ConvolutionSpec
from ppdet.modeling.cpu.tensors import (
    CHANNELS_FIRST,
    TYPES,
    Input,
    apply,
    check_unchanged,
    keep,
    kept,
    like_input,
    needs_gradient,
    packed_weights,
    pixels_first,
    state,
    wanted,
)


class ConvolutionFunction(PyLayer):
    @staticmethod
    def forward(
        ctx: object,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        scale: Tensor | None,
        convolution: Convolution,
    ) -> Tensor:
        spec = convolution.spec
        packed = packed_weights(weight, scale)
        source = pixels_first(x, spec.data)
        n, c, h, w = spec.y
        y = paddle.empty([n, h, w, c], TYPES[spec.result])
        forward = convolution.forward
        arrays = {SRC: source, WEIGHTS: packed.layout_of(convolution, forward), DST: y}
        if bias is not None:
            arrays[BIAS] = bias
        if residual is not None:
            arrays[BINARY_POST_OP | SRC_1] = pixels_first(residual, spec.result)
        forward(arrays)
        ctx.convolution, ctx.packed, ctx.weight_version = convolution, packed, weight.inplace_version
        ctx.inputs = [Input.of(tensor) for tensor in (x, weight, bias, residual, scale)]
        keep(ctx, source, y) if spec.relu else keep(ctx, source)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        convolution, spec = ctx.convolution, ctx.convolution.spec
        source, *results = kept(ctx)
        check_unchanged(ctx.packed.weight, ctx.weight_version)
        of_x, of_weight, of_bias, of_residual, _ = ctx.inputs
        gradient = pixels_first(dy, spec.data)
        if results:
            gradient = relu_gradient(results[0], gradient)
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
        return wanted(ctx.inputs, (dx, dw, db, added, None))


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
    """relu(conv(x) * scale + shift + residual), or None where oneDNN cannot compute it.

    Args:
        scale, shift: (O,), constants in the place of a bias.
        float_result: the result is float32, whatever the layers compute in.
    """
    bias = conv.bias if shift is None else shift
    spec = describe(conv, x, bias, residual, relu, float_result)
    convolution = primitives.convolution(spec) if spec else None
    if convolution is None:
        return None
    return apply(ConvolutionFunction, (x, conv.weight, bias, residual, scale), convolution)


def describe(
    conv: nn.Conv2D, x: Tensor, bias: Tensor | None, residual: Tensor | None, relu: bool, float_result: bool
) -> ConvolutionSpec | None:
    """The convolution as oneDNN's, or None: oneDNN reads memory as it is told to, so that all has to fit first."""
    weight, padding = conv.weight, pair(conv._padding)
    if padding is None or conv._padding_mode != "zeros" or conv._data_format != "NCHW":
        return None
    if len(x.shape) != 4 or x.shape[1] != weight.shape[1] * conv._groups:
        return None
    if any(v is not None and not (v.dtype == paddle.float32 and v.is_contiguous()) for v in (weight, bias)):
        return None
    spec = ConvolutionSpec(
        tuple(x.shape),
        tuple(weight.shape),
        pair(conv._stride),
        padding,
        pair(conv._dilation),
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


def pair(value: object) -> tuple[int, int] | None:
    """(vertical, horizontal) of Paddle's strides, dilations and paddings; None for a padding of another form."""
    if isinstance(value, int):
        return value, value
    numbers = not isinstance(value, str) and len(value) == 2 and all(isinstance(v, int) for v in value)
    return tuple(value) if numbers else None
