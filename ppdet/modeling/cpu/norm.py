"""Batch norm and group norm, with a ReLU after them."""

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.onednn import (
    DATA_TYPES,
    DIFF_DST,
    DIFF_SCALE,
    DIFF_SHIFT,
    DIFF_SRC,
    DST,
    MEAN,
    SCALE,
    SHIFT,
    SRC,
    SRC_1,
    VARIANCE,
    WORKSPACE,
    Buffer,
)
from ppdet.modeling.cpu.primitives import AFFINE_SHIFT
from ppdet.modeling.cpu.tensors import CHANNELS_FIRST, Input, apply, keep, kept, like_input, pixels_first, state, wanted


class BatchNormFunction(PyLayer):
    """With the batch's statistics, or with the stored ones where the norm says so.

    The first also updates the stored ones, as Paddle does: new = momentum * old + (1 - momentum) * of the batch.
    """

    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2D, relu: bool) -> Tensor:
        data = state.data
        shape, stored = tuple(x.shape), bool(norm._use_global_stats)
        primitive = primitives.batch_norm(shape, data, norm._epsilon, stored, relu)
        source = pixels_first(x, data)
        y = paddle.empty(source.shape, source.dtype)
        mean, variance = norm._mean, norm._variance
        if not stored:
            mean, variance = paddle.empty([shape[1]], "float32"), paddle.empty([shape[1]], "float32")
        arrays = {SRC: source, DST: y, MEAN: mean, VARIANCE: variance}
        arrays.update({SCALE: weight, SHIFT: bias})
        ctx.mask = {}
        if relu:
            ctx.mask = {WORKSPACE: Buffer(primitive.workspace)}
        primitive.forward({**arrays, **ctx.mask})
        for running, batch in () if stored else ((norm._mean, mean), (norm._variance, variance)):
            running.scale_(norm._momentum).add_(batch * (1.0 - norm._momentum))
        ctx.primitive, ctx.inputs = primitive, [Input.of(tensor) for tensor in (x, weight, bias)]
        keep(ctx, source, mean, variance, weight)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        source, mean, variance, weight = kept(ctx)
        gradient = pixels_first(dy, DATA_TYPES[source.dtype])
        dx = paddle.empty(source.shape, source.dtype)
        dw, db = paddle.empty(weight.shape, "float32"), paddle.empty(weight.shape, "float32")
        arrays = {SRC: source, MEAN: mean, VARIANCE: variance}
        arrays.update({SCALE: weight, DIFF_DST: gradient, DIFF_SRC: dx})
        arrays.update({DIFF_SCALE: dw, DIFF_SHIFT: db, **ctx.mask})
        ctx.primitive.backward(arrays)
        return wanted(ctx.inputs, (like_input(dx, ctx.inputs[0].dtype), dw, db))


def batch_norm(norm: nn.BatchNorm2D, x: Tensor, *, relu: bool = False) -> Tensor:
    """relu(norm(x)) of a norm that is training."""
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
        ctx.primitive, ctx.moments = primitive, moments
        ctx.inputs = [Input.of(tensor) for tensor in (x, weight, bias)]
        ctx.groups, ctx.epsilon = groups, epsilon
        keep(ctx, source, weight)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: object, dy: Tensor) -> tuple:
        source, weight = kept(ctx)
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
        return wanted(ctx.inputs, (like_input(dx, ctx.inputs[0].dtype), dw, db))


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
