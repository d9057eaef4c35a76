"""Batch norms whose running statistics a forward pass leaves as they are, against formulas."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppdet.modeling import layers
from ppdet.modeling.layers import normalize
from ppdet.modeling.norm_statistics import statistics_of

CHANNELS, MOMENTUM, EPSILON = 4, 0.8, 1e-5
KINDS = ("shared", "separate", "frozen")


def make_norm(kind=nn.BatchNorm2D, **options):
    norm = kind(CHANNELS, momentum=MOMENTUM, epsilon=EPSILON, **options)
    rng = np.random.default_rng(1)
    for tensor in (norm.weight, norm.bias, norm._mean, norm._variance):
        tensor.set_value(rng.uniform(0.5, 2.0, CHANNELS).astype("float32"))
    return norm


def columns(values):
    return np.asarray(values, np.float64).reshape(1, -1, 1, 1)


@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_values_gradients_and_running_statistics(monkeypatch, kind, relu, is_ours):
    if not is_ours:
        monkeypatch.setattr(layers.cpu, "can_compute_norm", lambda *_: False)
    norm, rng = make_norm(), np.random.default_rng(2)
    weight, bias, mean, variance = (t.numpy() for t in (norm.weight, norm.bias, norm._mean, norm._variance))
    x, dy = (rng.normal(1.0, 3.0, (3, CHANNELS, 5, 6)).astype("float32") for _ in range(2))
    given = paddle.to_tensor(x, stop_gradient=False)
    with statistics_of(nn.LayerList([norm]), kind):
        y = normalize(norm, given, relu=relu)
    y.backward(paddle.to_tensor(dy))  # after the block, as in a step

    own, spread = x.mean(axis=(0, 2, 3), dtype=np.float64), x.var(axis=(0, 2, 3), dtype=np.float64)
    used, width = (mean, variance) if kind == "frozen" else (own, spread)
    inverse = 1 / np.sqrt(columns(width) + EPSILON)
    z = (x - columns(used)) * inverse
    expected = z * columns(weight) + columns(bias)
    gradient = dy * (expected > 0) if relu else dy
    dz = gradient * columns(weight)
    dx = dz * inverse
    if kind != "frozen":
        average = [(dz * factor).mean(axis=(0, 2, 3), keepdims=True) for factor in (1, z)]
        dx = inverse * (dz - average[0] - z * average[1])
    np.testing.assert_allclose(y.numpy(), np.maximum(expected, 0) if relu else expected, atol=1e-5)
    np.testing.assert_allclose(given.grad.numpy(), dx, atol=1e-5)
    np.testing.assert_allclose(norm.weight.grad.numpy(), (gradient * z).sum(axis=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(norm.bias.grad.numpy(), gradient.sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    if kind == "shared":
        # Paddle's running variance is that of the batch with the divisor N, as its documentation says.
        mean, variance = (MOMENTUM * old + (1 - MOMENTUM) * new for old, new in ((mean, own), (variance, spread)))
        np.testing.assert_allclose(norm._mean.numpy(), mean, rtol=1e-5)
        np.testing.assert_allclose(norm._variance.numpy(), variance, rtol=1e-5)
    else:
        assert (norm._mean.numpy() == mean).all() and (norm._variance.numpy() == variance).all()
    assert (norm._momentum, norm._use_global_stats) == (MOMENTUM, None)


def test_a_synchronized_norm_that_is_frozen():
    """It needs no kernel for several GPUs then, and computes as the norm of one process."""
    synchronized, ordinary = make_norm(nn.SyncBatchNorm), make_norm()
    x = paddle.to_tensor(np.random.default_rng(3).normal(size=(2, CHANNELS, 3, 3)).astype("float32"))
    with statistics_of(nn.LayerList([synchronized, ordinary]), "frozen"):
        one, two = normalize(synchronized, x), normalize(ordinary, x)
        (one.sum() + two.sum()).backward()
    np.testing.assert_allclose(one.numpy(), two.numpy(), atol=1e-6)
    np.testing.assert_allclose(synchronized.weight.grad.numpy(), ordinary.weight.grad.numpy(), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_other_norms_and_errors(kind):
    """A norm that is frozen anyway, or evaluates, keeps its attributes; an error restores those of the others."""
    constant, evaluates, trains = make_norm(use_global_stats=True), make_norm(), make_norm()
    evaluates.eval()
    model = nn.LayerList([constant, evaluates, trains, nn.GroupNorm(2, CHANNELS)])
    with pytest.raises(RuntimeError), statistics_of(model, kind):
        assert (constant._momentum, constant._use_global_stats) == (MOMENTUM, True)
        assert (evaluates._momentum, evaluates._use_global_stats) == (MOMENTUM, None)
        expected = {"shared": (MOMENTUM, None), "separate": (1.0, None), "frozen": (MOMENTUM, True)}[kind]
        assert (trains._momentum, trains._use_global_stats) == expected
        raise RuntimeError
    assert (trains._momentum, trains._use_global_stats) == (MOMENTUM, None)
