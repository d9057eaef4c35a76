"""Blocks, norms and pyramid of the recipes' networks against plain formulas."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppdet.core.workspace import load_config
from ppdet.modeling.backbones import ResNet
from ppdet.modeling.layers import ConvNorm
from ppdet.modeling.necks import FPN
from ppdet.utils.errors import ConfigError


def randomize(layer, seed=0):
    rng = np.random.default_rng(seed)
    for name, value in layer.state_dict().items():
        spread = 1 / np.sqrt(np.prod(value.shape[1:])) if len(value.shape) > 1 else 0.3
        values = rng.normal(0, spread, value.shape)
        if name.endswith(("_variance", "norm.weight")):
            values = np.abs(values) + 0.5
        value.set_value(values.astype(np.float32))


@pytest.mark.parametrize(("groups", "base_width", "width"), [(1, 64, 128), (64, 4, 512)])
@pytest.mark.parametrize("variant", ["a", "b"])
def test_bottleneck(layers, variant, groups, base_width, width):
    """The first block of res3 in training: stride 2 in the first 1x1 (a) or the 3x3 (b); ResNeXt's width and groups."""
    backbone = ResNet(variant=variant, groups=groups, base_width=base_width, freeze_norm="statistics", num_stages=2,
                      return_idx=[1])  # fmt: skip
    block = backbone.stages[1][0]
    randomize(block)
    assert block.branch2b.conv.weight.shape == [width, width // groups, 3, 3]
    x = paddle.to_tensor(np.random.default_rng(1).standard_normal((2, 256, 6, 8)).astype(np.float32))

    def conv_norm(layer, x, stride, groups=1):
        y = F.conv2d(x, layer.conv.weight, stride=stride, padding=layer.conv.weight.shape[2] // 2, groups=groups)
        mean, variance, weight, bias = (
            v.reshape([1, -1, 1, 1])
            for v in (layer.norm._mean, layer.norm._variance, layer.norm.weight, layer.norm.bias)
        )
        return (y - mean) / (variance + 1e-5).sqrt() * weight + bias

    first, second = (2, 1) if variant == "a" else (1, 2)
    y = F.relu(conv_norm(block.branch2a, x, first))
    y = F.relu(conv_norm(block.branch2b, y, second, groups))
    expected = F.relu(conv_norm(block.branch2c, y, 1) + conv_norm(block.short, x, 2))
    assert expected.shape == [2, 512, 3, 4]
    np.testing.assert_allclose(block(x).numpy(), expected.numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "width_mult", "channels"),
    [(18, 0.5, [32, 64, 128, 256]), (18, 0.25, [16, 32, 64, 128]), (50, 0.5, [128, 256, 512, 1024])],
)
def test_a_narrower_network(layers, depth, width_mult, channels):
    """Every convolution has width_mult times as many channels; strides stay."""
    backbone = ResNet(
        depth=depth, variant="d", freeze_norm=False, freeze_at=-1, return_idx=[0, 1, 2, 3], width_mult=width_mult
    )
    assert [(s.channels, s.stride) for s in backbone.out_shape] == list(zip(channels, [4, 8, 16, 32], strict=True))
    outputs = backbone(paddle.zeros([1, 3, 64, 96]))
    assert [y.shape for y in outputs] == [[1, c, 64 // 2**i, 96 // 2**i] for i, c in enumerate(channels, 2)]
    whole = ResNet(depth=depth, variant="d", freeze_norm=False, freeze_at=-1).state_dict()
    for name, value in backbone.state_dict().items():
        expected = [round(n * width_mult) for n in whole[name].shape]
        if len(expected) == 4:
            expected[2:] = whole[name].shape[2:]
            expected[1] = 3 if name.startswith("conv1.conv1_1.") else expected[1]
        assert value.shape == expected, name


@pytest.mark.parametrize("other", [{"groups": 2}, {"base_width": 4}])
def test_a_narrower_network_has_no_groups(other):
    with pytest.raises(ValueError, match=r"width_mult is 0\.5; it needs groups 1 and base_width 64"):
        ResNet(depth=50, width_mult=0.5, **other)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("deformable", [False, True])
def test_stored_statistics_with_scale_and_bias_that_train(layers, deformable, relu):
    layer = ConvNorm(4, 8, 3, freeze_norm="statistics", deformable=deformable)
    randomize(layer)
    # Offsets of 0 and masks of 1/2 make the deformable convolution half the plain one.
    for parameter in layer.conv_offset.parameters() if deformable else []:
        parameter.set_value(paddle.zeros_like(parameter))
    layer.train()
    x = paddle.to_tensor(np.random.default_rng(1).standard_normal((2, 4, 5, 6)).astype(np.float32) * 3 + 1)
    norm = layer.norm
    before = [norm._mean.numpy().copy(), norm._variance.numpy().copy()]
    y = layer(x, relu=relu)
    weights = np.random.default_rng(2).standard_normal(y.shape).astype(np.float32)
    (y * paddle.to_tensor(weights)).sum().backward()

    convolved = F.conv2d(x, layer.conv.weight, padding=1).numpy().astype(float) * (0.5 if deformable else 1)
    mean, variance, scale, bias = (v.reshape(1, -1, 1, 1) for v in (*before, norm.weight.numpy(), norm.bias.numpy()))
    normal = (convolved - mean) / np.sqrt(variance + 1e-5)
    expected = normal * scale + bias
    gradient = weights * (expected > 0) if relu else weights
    np.testing.assert_allclose(y.numpy(), np.maximum(expected, 0) if relu else expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.bias.grad.numpy(), gradient.sum((0, 2, 3)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.weight.grad.numpy(), (gradient * normal).sum((0, 2, 3)), rtol=1e-4, atol=1e-3)
    # The gradient before the norm, by a 1x1 look at the convolution: it is linear.
    before_norm = paddle.to_tensor((gradient * scale / np.sqrt(variance + 1e-5)).astype(np.float32))
    conv = paddle.to_tensor(layer.conv.weight.numpy(), stop_gradient=False)
    (F.conv2d(x, conv, padding=1) * before_norm).sum().backward()
    factor = 0.5 if deformable else 1
    np.testing.assert_allclose(layer.conv.weight.grad.numpy(), factor * conv.grad.numpy(), rtol=1e-3, atol=1e-3)
    assert np.array_equal(norm._mean.numpy(), before[0]) and np.array_equal(norm._variance.numpy(), before[1])
    with paddle.no_grad():
        np.testing.assert_allclose(layer(x, relu=relu).numpy(), y.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("freeze_norm", "trains"), [("true", False), ("statistics", True), ("false", True)])
def test_freezing_in_a_file(tiny, freeze_norm, trains):
    options = [f"ResNet.freeze_norm={freeze_norm}", "ResNet.norm_type=sync_bn", "ResNet.freeze_at=0"]
    backbone = load_config(str(tiny), options).create("FCOS").backbone
    for stage, expected in ((backbone.conv1, False), (backbone.stages[0], False), (backbone.stages[1], trains)):
        norms = [layer.norm for layer in stage.sublayers() if isinstance(layer, ConvNorm)]
        assert {norm.weight.trainable and not norm.weight.stop_gradient for norm in norms} == {expected}
        # Statistics that stay are not brought together between GPUs.
        assert {norm.synchronize for norm in norms} == {freeze_norm == "false"}
        assert {bool(norm._use_global_stats) for norm in norms} == {freeze_norm != "false"}
    norms = [layer.norm for layer in backbone.stages[1].sublayers() if isinstance(layer, ConvNorm)]
    assert {norm.weight.optimize_attr["learning_rate"] for norm in norms} == {float(trains)}


def test_a_wrong_word_for_freezing(tiny):
    with pytest.raises(ConfigError, match="freeze_norm"):
        load_config(str(tiny), ["ResNet.freeze_norm=stats"]).create("FCOS")
    with pytest.raises(ValueError, match="freeze_norm is 'stats'; it must be one of true, false, statistics"):
        ConvNorm(3, 8, 3, freeze_norm="stats")


@pytest.mark.parametrize("use_c5", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_extra_levels(layers, use_c5, relu):
    """P6 is a convolution of P5 or C5, P7 of P6, after a ReLU if configured; all have a bias."""
    neck = FPN(in_channels=[16, 32, 64], out_channel=8, use_c5=use_c5, relu_before_extra_convs=relu)
    randomize(neck)
    assert all(conv.bias is not None for conv in (*neck.lateral_convs, *neck.fpn_convs, *neck.extra_convs))
    rng = np.random.default_rng(1)
    feats = [paddle.to_tensor(rng.standard_normal((1, c, 32 // 2**i, 64 // 2**i)).astype(np.float32))
             for i, c in enumerate((16, 32, 64))]  # fmt: skip
    levels = neck(feats)
    assert (levels[2].numpy() < 0).any() and (levels[3].numpy() < 0).any()
    p6, p7 = neck.extra_convs
    source = feats[2] if use_c5 else levels[2]
    expected = F.conv2d(source, p6.weight, p6.bias, stride=2, padding=1)
    np.testing.assert_allclose(levels[3].numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    below = F.relu(levels[3]) if relu else levels[3]
    expected = F.conv2d(below, p7.weight, p7.bias, stride=2, padding=1)
    np.testing.assert_allclose(levels[4].numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
