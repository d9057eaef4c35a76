"""oneDNN's operations against Paddle's own: results and gradients."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from processors import needs_bfloat16

from ppdet.modeling import cpu
from ppdet.modeling.cpu import tensors
from ppdet.modeling.layers import Conv2D, normalize

pytestmark = pytest.mark.skipif(not cpu.ready(), reason="oneDNN cannot be used on this machine")
# bfloat16 has 8 bits of mantissa.
TOLERANCE = {"float32": 5e-6, "bfloat16": 1e-2}


def array(*shape, seed=0, frozen=False):
    values = paddle.to_tensor(np.random.default_rng((seed, *shape)).standard_normal(shape).astype("float32"))
    values.stop_gradient = frozen
    return values


def values_and_gradients(function, tensors):
    for tensor in tensors:
        tensor.clear_grad()
    result = function()
    result.backward(array(*result.shape, seed=9, frozen=True).astype(result.dtype))
    return [t.astype("float32").numpy() for t in (result, *[tensor.grad for tensor in tensors])]


def check(ours, theirs, tensors, tolerance=TOLERANCE["float32"]):
    for a, b in zip(values_and_gradients(ours, tensors), values_and_gradients(theirs, tensors)):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


CONVOLUTIONS = {
    "3x3": (64, 64, 3, {"padding": 1}, (20, 24)),
    "stem": (3, 32, 7, {"stride": 2, "padding": 3, "bias_attr": False}, (33, 35)),
    "1x1 of stride 2": (64, 96, 1, {"stride": 2, "bias_attr": False}, (10, 11)),
    "few outputs": (256, 4, 3, {"padding": 1}, (7, 9)),
    "one pixel": (64, 1, 3, {"padding": 1}, (1, 1)),
    "one column": (16, 16, 3, {"padding": 1}, (7, 1)),
    "ResNeXt": (256, 256, 3, {"padding": 1, "stride": 2, "groups": 64, "bias_attr": False}, (9, 11)),
    "depthwise": (32, 32, 3, {"padding": 1, "groups": 32}, (9, 11)),
    "dilated": (32, 32, 3, {"padding": 2, "dilation": 2}, (13, 15)),
    "odd channels": (6, 10, 3, {"padding": 1}, (13, 15)),
    "unequal padding": (16, 16, 3, {"padding": [1, 0]}, (9, 8)),
}


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name, dtype):
    inputs, outputs, kernel, options, size = CONVOLUTIONS[name]
    conv = nn.Conv2D(inputs, outputs, kernel, **options)
    x = array(2, inputs, *size)
    with cpu.compute_in(dtype):
        if dtype == "bfloat16" and name in ("one pixel", "one column"):  # see test_weights_that_only_meet_padding
            assert cpu.convolve(conv, x) is None
            return
        check(lambda: cpu.convolve(conv, x), lambda: conv(x), [x, *conv.parameters()], TOLERANCE[dtype])


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_with_constants_residual_and_relu(groups):
    conv = nn.Conv2D(64, 64, 3, padding=1, groups=groups, bias_attr=False)
    x, residual = array(2, 64, 9, 11), array(2, 64, 9, 11, seed=1)
    scale, shift = array(64, frozen=True), array(64, seed=1, frozen=True)

    def ours():
        return cpu.convolve(conv, x, residual=residual, relu=True, scale=scale, shift=shift)

    def theirs():
        return F.relu(conv(x) * scale.reshape([1, -1, 1, 1]) + shift.reshape([1, -1, 1, 1]) + residual)

    check(ours, theirs, [x, residual, conv.weight])


@pytest.mark.parametrize("x_frozen, weight_frozen", [(True, False), (False, True)])
def test_only_what_asks_gets_a_gradient(x_frozen, weight_frozen):
    conv = nn.Conv2D(16, 16, 3, padding=1)
    conv.weight.stop_gradient = conv.bias.stop_gradient = weight_frozen
    x = array(1, 16, 5, 5, frozen=x_frozen)
    cpu.convolve(conv, x).sum().backward()
    assert (x.grad is None) == x_frozen
    assert (conv.weight.grad is None) == (conv.bias.grad is None) == weight_frozen


def test_nothing_is_recorded_without_gradients():
    conv = nn.Conv2D(16, 16, 3, padding=1)
    with paddle.no_grad():
        assert cpu.convolve(conv, array(1, 16, 5, 5)).stop_gradient


@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm_and_its_running_statistics(relu):
    norms = [nn.BatchNorm2D(64, momentum=0.7), nn.BatchNorm2D(64, momentum=0.7)]
    for norm in norms:
        norm.weight.set_value(array(64))
        norm.bias.set_value(array(64, seed=1))
    x = array(3, 64, 9, 11)
    check(
        lambda: cpu.batch_norm(norms[0], x, relu=relu),
        lambda: F.relu(norms[1](x)) if relu else norms[1](x),
        [x],
    )
    for name in ("_mean", "_variance"):
        ours, theirs = (getattr(norm, name).numpy() for norm in norms)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for name in ("weight", "bias"):
        ours, theirs = (getattr(norm, name).grad.numpy() for norm in norms)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(2, 64, 9, 11), (3, 256, 4, 5), (1, 64, 1, 1)])
def test_group_norm(relu, shape):
    norm = nn.GroupNorm(32, shape[1])
    norm.weight.set_value(array(shape[1]))
    norm.bias.set_value(array(shape[1], seed=1))
    x = array(*shape)
    check(
        lambda: cpu.group_norm(norm, x, relu=relu),
        lambda: F.relu(norm(x)) if relu else norm(x),
        # Two values in a group make 1 and -1, whatever they are: no gradient but rounding.
        [x, norm.weight, norm.bias] if shape[2] > 1 else [norm.bias],
        2e-5,
    )


def test_group_norm_far_from_zero():
    """A mean much larger than the deviation is where a variance from squares would lose its digits."""
    norm = nn.GroupNorm(4, 16)
    x = (array(2, 16, 8, 8) + 100.0).detach()
    x64 = x.numpy().astype("float64").reshape(2, 4, -1)
    expected = (x64 - x64.mean(2, keepdims=True)) / np.sqrt(x64.var(2, keepdims=True) + norm._epsilon)
    got = cpu.group_norm(norm, x).numpy().reshape(2, 4, -1)
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_pools_sum_and_upsampling():
    x, y, even = array(2, 64, 9, 11), array(2, 64, 9, 11, seed=1), array(2, 64, 8, 10)
    check(lambda: cpu.max_pool(x, 3, 2, 1), lambda: F.max_pool2d(x, 3, 2, 1), [x])
    check(lambda: cpu.mean_pool(even, 2, 2), lambda: F.avg_pool2d(even, 2, 2), [even])
    check(lambda: cpu.add_relu(x, y), lambda: F.relu(x + y), [x, y])
    check(lambda: cpu.relu(x), lambda: F.relu(x), [x])
    check(lambda: cpu.upsample_twice(x), lambda: F.interpolate(x, scale_factor=2), [x])


def test_both_users_of_a_fork_count():
    x = array(2, 16, 5, 7)

    def ours():
        first, second = cpu.duplicate_with_summed_gradient(x)
        return first * 2 + cpu.add_relu(second, second)

    check(ours, lambda: x * 2 + F.relu(2 * x), [x])


def test_results_stay_in_channels_last_memory():
    conv = nn.Conv2D(16, 16, 3, padding=1)
    y = cpu.convolve(conv, array(2, 16, 5, 7))
    assert y.shape == [2, 16, 5, 7] and y.transpose([0, 2, 3, 1]).is_contiguous()
    again = tensors.to_channels_last(y, tensors.FLOAT32)
    assert again.data_ptr() == y.data_ptr()


def test_weights_are_read_anew_after_a_change():
    conv = nn.Conv2D(16, 16, 3, padding=1, bias_attr=False)
    x = array(1, 16, 5, 5, frozen=True)
    with cpu.CachedPackedWeights():
        before = cpu.convolve(conv, x).numpy()
    conv.weight.set_value(2 * conv.weight)
    with cpu.CachedPackedWeights():
        np.testing.assert_allclose(cpu.convolve(conv, x).numpy(), 2 * before, rtol=1e-6)
    conv.weight.set_value(2 * conv.weight)
    np.testing.assert_allclose(cpu.convolve(conv, x).numpy(), 4 * before, rtol=1e-6)


def test_one_pass_packs_shared_weights_once(monkeypatch):
    packed = []
    original = tensors.Convolution.pack
    monkeypatch.setattr(tensors.Convolution, "pack", lambda *a: packed.append(1) or original(*a))
    conv = nn.Conv2D(16, 16, 3, padding=1)
    with cpu.CachedPackedWeights():
        total = sum(cpu.convolve(conv, array(1, 16, size, 6)).sum() for size in (3, 5, 8))
    assert len(packed) == 1
    total.backward()
    assert len(packed) == 2


def test_frozen_inputs_get_no_gradient():
    """With each input of an operation frozen in turn, the other inputs' gradients do not change."""
    bn, gn = nn.BatchNorm2D(16), nn.GroupNorm(4, 16)
    x, y = array(2, 16, 5, 7), array(2, 16, 5, 7, seed=1)
    operations = [
        (lambda: cpu.batch_norm(bn, x), [x, bn.weight, bn.bias]),
        (lambda: cpu.group_norm(gn, x, relu=True), [x, gn.weight, gn.bias]),
        (lambda: cpu.add_relu(x, y), [x, y]),
    ]
    for operation, inputs in operations:
        expected = values_and_gradients(operation, inputs)[1:]
        for frozen in inputs:
            frozen.stop_gradient = True
            others = [tensor for tensor in inputs if tensor is not frozen]
            gradients = values_and_gradients(operation, others)[1:]
            frozen.stop_gradient = False
            wanted = [e for e, tensor in zip(expected, inputs) if tensor is not frozen]
            for gradient, value in zip(gradients, wanted):
                np.testing.assert_allclose(gradient, value, rtol=1e-5, atol=1e-5)


def test_paddle_does_what_does_not_fit():
    """Shapes and types that oneDNN would misread must not reach it."""
    conv = Conv2D(8, 8, 3, padding=1)
    x, residual = array(1, 8, 5, 5), array(1, 8, 1, 1)
    expected = F.conv2d(x, conv.weight, conv.bias, padding=1) + residual
    np.testing.assert_allclose(conv(x, residual=residual).numpy(), expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError):
        conv(x, residual=array(1, 8, 2, 2))
    with pytest.raises(ValueError):
        normalize(nn.GroupNorm(4, 8), array(1, 16, 5, 5))
    unequal = Conv2D(8, 8, 3, padding=[0, 1, 0, 1])
    expected = F.conv2d(x, unequal.weight, unequal.bias, padding=[0, 1, 0, 1])
    np.testing.assert_allclose(unequal(x).numpy(), expected.numpy(), atol=1e-5)
    double = Conv2D(8, 8, 3)
    double.to(dtype="float64")
    assert double(x.astype("float64")).dtype == paddle.float64
    assert conv(x).shape == [1, 8, 5, 5] and cpu.can_compute(x)


@pytest.mark.parametrize("changed", ["weight", "input", "result"])
def test_a_change_in_place_before_the_backward_pass_is_an_error(changed):
    conv = nn.Conv2D(16, 16, 3, padding=1)
    x = cpu.relu(array(1, 16, 8, 8))
    y = cpu.convolve(conv, x, relu=True)
    with paddle.no_grad():
        {"weight": conv.weight, "input": x, "result": y}[changed].scale_(10.0)
    # Paddle reports what its backward pass raises as an error of its own.
    with pytest.raises(Exception, match="changed in place"):
        y.sum().backward()


def test_views_of_negative_stride():
    conv = nn.Conv2D(8, 8, 3, padding=1)
    x = array(1, 8, 6, 6)
    check(lambda: cpu.convolve(conv, x[:, :, ::-1]), lambda: conv(x[:, :, ::-1]), [x, *conv.parameters()])


@needs_bfloat16
def test_weights_that_only_meet_padding():
    """On maps of one pixel 8 weights of 3x3 have no gradient, whatever lay in memory before."""
    conv = Conv2D(128, 128, 3, stride=2, padding=1)
    for _ in range(20):
        garbage = [paddle.full([128 * 128 * 9], 1e30) for _ in range(3)]
        del garbage
        x = paddle.randn([2, 128, 1, 1])
        with cpu.compute_in("bfloat16"):
            conv(x).sum().backward()
        gradient = conv.weight.grad.numpy()
        expected = np.zeros_like(gradient)
        expected[:, :, 1, 1] = x.numpy().sum(axis=(0, 2, 3))
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=0.05)
        conv.clear_gradients()
