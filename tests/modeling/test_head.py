"""Towers and maps of the head against their formulas in numpy."""

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.modeling.heads import FCOSFeat, FCOSHead
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.errors import ConfigError

CHANNELS = 32


def randomize(layer, seed):
    """Every parameter gets values that matter; returns them by name, float64."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, parameter in layer.named_parameters():
        if name.endswith("scale_reg"):
            value = rng.uniform(0.5, 1.5, parameter.shape)
        else:
            spread = 1 / np.sqrt(np.prod(parameter.shape[1:])) if len(parameter.shape) > 1 else 0.3
            value = rng.normal("norm.weight" in name, spread, parameter.shape)
        values[name] = value.astype(np.float32).astype(np.float64)
        parameter.set_value(value.astype(np.float32))
    return values


def sample(x, y_at, x_at):
    """Bilinear value (C,) of x (C, H, W) at a point; what lies outside of the map counts as 0."""
    total = np.zeros(len(x))
    top, left = int(np.floor(y_at)), int(np.floor(x_at))
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            total += x[:, row, column] * (1 - abs(y_at - row)) * (1 - abs(x_at - column))
    return total


def conv3x3(x, weight, bias=0.0, offset=None, mask=None):
    """Of x (C, H, W), padded by 1. Deformable (Zhu et al., arXiv:1811.11168, equation 1) where there are `offset`
    (18, H, W), y and x of each of the 9 samples, and `mask` (9, H, W)."""
    height, width = x.shape[1:]
    y = np.zeros((len(weight), height, width))
    for i, j in np.ndindex(height, width):
        for k in range(9):
            place = np.array([i + k // 3 - 1, j + k % 3 - 1], float)
            factor = 1.0
            if offset is not None:
                place, factor = place + offset[2 * k : 2 * k + 2, i, j], mask[k, i, j]
            y[:, i, j] += weight[:, :, k // 3, k % 3] @ sample(x, *place) * factor
    return y + np.reshape(bias, (-1, 1, 1))


def group_norm_relu(x, weight, bias):
    """32 groups."""
    groups = x.reshape(32, -1)
    normal = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
    return np.maximum(normal.reshape(x.shape) * weight[:, None, None] + bias[:, None, None], 0)


def tower(x, values, kind, layers):
    for i in range(layers):
        name = f"fcos_head_{kind}_tower_conv_{i}."
        if name + "conv.conv_dcn.weight" in values:
            both = conv3x3(x, values[name + "conv.conv_offset.weight"], values[name + "conv.conv_offset.bias"])
            shape = {"offset": both[:18], "mask": 1 / (1 + np.exp(-both[18:]))}
            x = conv3x3(x, values[name + "conv.conv_dcn.weight"], values.get(name + "conv.conv_dcn.bias", 0), **shape)
        else:
            x = conv3x3(x, values[name + "conv.weight"], values.get(name + "conv.bias", 0))
        x = group_norm_relu(x, values[name + "norm.weight"], values[name + "norm.bias"])
    return x


@pytest.mark.parametrize("conv_bias", [True, False])
@pytest.mark.parametrize("use_dcn", [False, "last", True])
def test_towers(layers, use_dcn, conv_bias):
    feat = FCOSFeat(feat_in=CHANNELS, feat_out=CHANNELS, num_convs=2, use_dcn=use_dcn, conv_bias=conv_bias)
    values = randomize(feat, 0)
    expected = set()
    for kind in ("cls", "reg"):
        for i, deformable in enumerate({False: (0, 0), "last": (0, 1), True: (1, 1)}[use_dcn]):
            name = f"fcos_head_{kind}_tower_conv_{i}."
            parts = ["conv.conv_dcn", "conv.conv_offset"] if deformable else ["conv"]
            expected |= {f"{name}{part}.{p}" for part in (*parts, "norm") for p in ("weight", "bias")}
            if not conv_bias:
                expected.remove(f"{name}{parts[0]}.bias")
    assert set(values) == expected
    x = np.random.default_rng(1).standard_normal((1, CHANNELS, 3, 4)).astype(np.float32)
    for kind, actual in zip(("cls", "reg"), feat(paddle.to_tensor(x))):
        np.testing.assert_allclose(actual[0].numpy(), tower(x[0].astype(float), values, kind, 2), rtol=1e-3, atol=1e-4)


def test_use_dcn_in_a_file(tiny):
    def deformable(option):
        options = ["FCOSHead.fcos_feat.num_convs=3", f"FCOSHead.fcos_feat.use_dcn={option}"]
        names = load_config(str(tiny), options).create("FCOS").state_dict()
        return sorted({int(name.split("tower_conv_")[1][0]) for name in names if "conv_dcn" in name})

    assert [deformable(option) for option in ("false", "last", "true")] == [[], [2], [0, 1, 2]]
    with pytest.raises(ConfigError, match="use_dcn: expected true or false or 'last', got 'first'"):
        deformable("first")


@pytest.mark.parametrize("exponential", [True, False])
@pytest.mark.parametrize("centerness_on_reg", [True, False])
def test_maps(layers, exponential, centerness_on_reg):
    feat = FCOSFeat(feat_in=CHANNELS, feat_out=CHANNELS, num_convs=1)
    head = FCOSHead(
        num_classes=3,
        fcos_feat=feat,
        fpn_stride=[8, 16],
        norm_reg_targets=not exponential,
        centerness_on_reg=centerness_on_reg,
        fcos_loss=None,
        nms=MultiClassNMS(),
    )
    values = randomize(head, 2)
    rng = np.random.default_rng(3)
    feats = [rng.standard_normal((1, CHANNELS, *size)).astype(np.float32) for size in ((4, 5), (2, 3))]
    maps = head([paddle.to_tensor(x) for x in feats])
    pixels = head.in_pixels(maps).distances

    def last(x, name):
        return conv3x3(x, values[f"fcos_head_{name}.weight"], values[f"fcos_head_{name}.bias"])

    towers = {name.removeprefix("fcos_feat."): value for name, value in values.items()}
    for i, (x, stride) in enumerate(zip(feats, (8, 16))):
        cls, reg = (tower(x[0].astype(float), towers, kind, 1) for kind in ("cls", "reg"))
        raw = last(reg, "reg") * values[f"p{3 + i}_feat.scale_reg"]
        # In pixels by exp; else in strides by ReLU, which detection multiplies by the stride.
        distances = np.exp(raw) if exponential else np.maximum(raw, 0)
        expected = {
            "logits": (maps.logits[i], last(cls, "cls")),
            "quality": (maps.quality[i], last(reg if centerness_on_reg else cls, "centerness")),
            "distances": (maps.distances[i], distances),
            "pixels": (pixels[i], distances if exponential else distances * stride),
        }
        for name, (actual, value) in expected.items():
            np.testing.assert_allclose(actual[0].numpy(), value, rtol=1e-3, atol=1e-3, err_msg=name)
