"""Batch norm and group norm in training, with an optional ReLU after them."""

from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppdet.modeling.cpu import primitives
from ppdet.modeling.cpu.onednn import DATA_TYPES, Arg, Buffer
from ppdet.modeling.cpu.primitives import AFFINE_SHIFT
from ppdet.modeling.cpu.tensors import (
    CHANNELS_FIRST,
    Input,
    apply,
    given_gradients,
    like_input,
    load_saved,
    save,
    state,
    to_channels_last,
)


class BatchNormFunction(PyLayer):
    """Batch norm with the stored statistics if the norm has use_global_stats, otherwise with the batch's statistics.

    The latter also updates the stored ones as Paddle does: momentum * stored + (1 - momentum) * the batch's.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2D, relu: bool) -> Tensor:
        data = state.data
        shape, stored = tuple(x.shape), bool(norm._use_global_stats)
        primitive = primitives.batch_norm(shape, data, norm._epsilon, stored, relu)
        source = to_channels_last(x, data)
        y = paddle.empty(source.shape, source.dtype)
        mean, variance = norm._mean, norm._variance
        if not stored:
            mean, variance = paddle.empty([shape[1]], "float32"), paddle.empty([shape[1]], "float32")
        arrays = {Arg.SRC: source, Arg.DST: y, Arg.MEAN: mean, Arg.VARIANCE: variance}
        arrays.update({Arg.SCALE: weight, Arg.SHIFT: bias})
        ctx.mask = {}
        if relu:
            ctx.mask = {Arg.WORKSPACE: Buffer(primitive.workspace)}
        primitive.forward({**arrays, **ctx.mask})
        for running, batch in () if stored else ((norm._mean, mean), (norm._variance, variance)):
            running.scale_(norm._momentum).add_(batch * (1.0 - norm._momentum))
        ctx.primitive, ctx.inputs = primitive, [Input.of(tensor) for tensor in (x, weight, bias)]
        save(ctx, source, mean, variance, weight)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        source, mean, variance, weight = load_saved(ctx)
        gradient = to_channels_last(dy, DATA_TYPES[source.dtype])
        dx = paddle.empty(source.shape, source.dtype)
        dw, db = paddle.empty(weight.shape, "float32"), paddle.empty(weight.shape, "float32")
        arrays = {Arg.SRC: source, Arg.MEAN: mean, Arg.VARIANCE: variance}
        arrays.update({Arg.SCALE: weight, Arg.DIFF_DST: gradient, Arg.DIFF_SRC: dx})
        arrays.update({Arg.DIFF_SCALE: dw, Arg.DIFF_SHIFT: db, **ctx.mask})
        ctx.primitive.backward(arrays)
        return given_gradients(ctx.inputs, (like_input(dx, ctx.inputs[0].dtype), dw, db))


def batch_norm(norm: nn.BatchNorm2D, x: Tensor, *, relu: bool = False) -> Tensor:
    """norm(x) in training mode, through a ReLU if asked."""
    return apply(BatchNormFunction, (x, norm.weight, norm.bias), norm, relu)


class GroupNormFunction(PyLayer):
    """Group norm by way of oneDNN's batch norm, since the backward pass of oneDNN's group norm is slow.

    For one image as a batch, batch norm gives mean and variance of each channel, from which mean and variance of each
    group follow. With these as given statistics, batch norm normalizes the image. Its backward pass leaves out the
    gradient through mean and variance of the group, which is an affine function of x in each channel and is added
    afterwards.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float, relu: bool) -> Tensor:
        data = state.data
        n, c, h, w = x.shape
        one = (1, c, h, w)
        statistics = primitives.batch_norm(one, data, epsilon, False, False).forward
        primitive = primitives.batch_norm(one, data, epsilon, True, relu)
        source = to_channels_last(x, data)
        y = paddle.empty(source.shape, source.dtype)
        moments = np.empty((n, 2, c), np.float32)
        ctx.masks = []
        affine = {Arg.SCALE: weight, Arg.SHIFT: bias}
        for i, image, result in zip(range(n), addresses(source), addresses(y)):
            mean, variance = moments[i]
            arrays = {Arg.SRC: image, Arg.DST: result, Arg.MEAN: mean, Arg.VARIANCE: variance, **affine}
            statistics(arrays)
            mean[:], variance[:] = group_moments(mean, variance, groups)
            if relu:
                ctx.masks.append(Buffer(primitive.workspace))
                arrays[Arg.WORKSPACE] = ctx.masks[-1]
            primitive.forward(arrays)
        ctx.primitive, ctx.moments = primitive, moments
        ctx.inputs = [Input.of(tensor) for tensor in (x, weight, bias)]
        ctx.groups, ctx.epsilon = groups, epsilon
        save(ctx, source, weight)
        return y.transpose(CHANNELS_FIRST)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        source, weight = load_saved(ctx)
        n, h, w, c = source.shape
        data = DATA_TYPES[source.dtype]
        gradient = to_channels_last(dy, data)
        dx = paddle.empty(source.shape, source.dtype)
        add_affine = primitives.add_affine((1, c, h, w), data)
        scale = weight.numpy()
        affine_gradients = np.empty((n, 2, c), np.float32)
        images = zip(range(n), addresses(source), addresses(gradient), addresses(dx))
        for i, image, incoming, result in images:
            mean, variance = ctx.moments[i]
            scale_gradient, shift_gradient = affine_gradients[i]
            arrays = {Arg.SRC: image, Arg.MEAN: mean, Arg.VARIANCE: variance, Arg.SCALE: scale}
            arrays.update({Arg.DIFF_DST: incoming, Arg.DIFF_SRC: result})
            arrays.update({Arg.DIFF_SCALE: scale_gradient, Arg.DIFF_SHIFT: shift_gradient})
            if ctx.masks:
                arrays[Arg.WORKSPACE] = ctx.masks[i]
            ctx.primitive.backward(arrays)
            # With v the inverse standard deviation and z = (x - mean) v:
            # dx = v scale dy - v mean(scale dy) - v z mean(scale dy z), where the means are over the group.
            # Batch norm computed the first term; the other two are factor * x + shift.
            inverse = 1.0 / np.sqrt(variance + ctx.epsilon)
            per_group = h * w * c // ctx.groups
            sums = [
                (scale * v).reshape(ctx.groups, -1).sum(axis=1) / per_group for v in (shift_gradient, scale_gradient)
            ]
            mean_gradient, deviation_gradient = (np.repeat(s, c // ctx.groups) for s in sums)
            factor = (-inverse * inverse * deviation_gradient).astype(np.float32)
            shift = (-inverse * mean_gradient - factor * mean).astype(np.float32)
            add_affine({Arg.SRC: image, Arg.SRC_1: factor, AFFINE_SHIFT: shift, Arg.DST: result})
        dw, db = (paddle.to_tensor(v) for v in affine_gradients.sum(axis=0))
        return given_gradients(ctx.inputs, (like_input(dx, ctx.inputs[0].dtype), dw, db))


def addresses(images: Tensor) -> range:
    """The address of each image of a contiguous tensor (N, H, W, C)."""
    step = images[0].size * images.element_size()
    return range(images.data_ptr(), images.data_ptr() + step * images.shape[0], step)


def group_moments(mean: np.ndarray, variance: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (C,) of each channel's group, from mean and variance (C,) of each channel."""
    means, variances = mean.reshape(groups, -1).astype(np.float64), variance.reshape(groups, -1)
    size = means.shape[1]
    total = variances.mean(axis=1) + means.var(axis=1)
    return np.repeat(means.mean(axis=1), size), np.repeat(total, size)


def group_norm(norm: nn.GroupNorm, x: Tensor, *, relu: bool = False) -> Tensor:
    """norm(x), through a ReLU if asked."""
    return apply(GroupNormFunction, (x, norm.weight, norm.bias), norm._num_groups, norm._epsilon, relu)
