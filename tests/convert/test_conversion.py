"""Converted values compute the same as in the code base that they come from."""

import foreign
import numpy as np
import paddle
import pytest

from ppdet.convert.conversion import convert
from ppdet.convert.named_arrays import Checkpoint, ConversionError
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.modeling.heads.fcos_head import TowerDeformConv
from ppdet.modeling.layers import ConvNorm

SMALL = {"depth": 18, "width": 8, "channels": 32}


def converted(values, code_base="auto"):
    return convert(Checkpoint(values, [], "", ""), code_base)


def fill(layer, arrays, prefix):
    """Give `layer` the arrays whose names begin with `prefix`."""
    for name, value in layer.state_dict().items():
        value.set_value(paddle.to_tensor(arrays[f"{prefix}.{name}"]))
    layer.eval()
    return layer


def test_values_stay_as_they_are():
    values = foreign.arrays(foreign.mmdet(**SMALL, tower_bias=True), seed=0)
    conversion = converted(values)
    special = [name for name in values if "scales" in name]
    for ours, theirs in conversion.names.items():
        if theirs not in special:
            assert np.array_equal(conversion.arrays[ours], values[theirs]), ours
    for i, name in enumerate(special):
        scale = conversion.arrays[f"fcos_head.p{3 + i}_feat.scale_reg"]
        assert scale.shape == (1,) and scale[0] == values[name]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_other_types_become_float32(dtype):
    values = {name: v.astype(dtype) for name, v in foreign.arrays(foreign.mmdet(**SMALL), seed=0).items()}
    for ours, theirs in (conversion := converted(values)).names.items():
        array = conversion.arrays[ours]
        assert array.dtype == np.float32 and np.array_equal(array.ravel(), values[theirs].astype(np.float32).ravel())


def test_frozen_norms_without_an_epsilon():
    """maskrcnn-benchmark: x * weight / sqrt(running_var) + bias - running_mean * weight / sqrt(running_var)."""
    values = foreign.arrays(foreign.fcos_plus(**SMALL), seed=1)
    name = "backbone.body.layer1.0.bn1"
    values[f"{name}.running_var"] = np.linspace(1e-4, 2, 8, dtype=np.float32)
    arrays = converted(values).arrays
    norm = fill(paddle.nn.BatchNorm2D(8), arrays, "backbone.res2.res2a.branch2a.norm")
    x = np.random.default_rng(0).normal(size=(2, 8, 3, 3)).astype(np.float32)
    weight, bias, mean, variance = (
        values[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    expected = (x - mean) / np.sqrt(variance) * weight + bias
    assert np.allclose(norm(paddle.to_tensor(x)).numpy(), expected, rtol=2e-5, atol=2e-5)
    # Group norms and other code bases have the usual epsilon: nothing changes.
    values = foreign.arrays(foreign.mmdet(**SMALL), seed=1)
    kept = converted(values).arrays["backbone.res2.res2a.branch2a.norm._variance"]
    assert np.array_equal(kept, values["backbone.layer1.0.bn1.running_var"])


def test_norms_with_their_statistics_folded_in():
    """Caffe2's AffineChannel: x * s + b."""
    values = foreign.arrays(foreign.caffe2(width=8), seed=2)
    conversion = converted(values)
    norm = fill(paddle.nn.BatchNorm2D(8), conversion.arrays, "conv1.conv1.norm")
    x = np.random.default_rng(0).normal(size=(2, 8, 3, 3)).astype(np.float32)
    scale, bias = (values[f"res_conv1_bn_{part}"][:, None, None] for part in "sb")
    assert np.allclose(norm(paddle.to_tensor(x)).numpy(), x * scale + bias, rtol=1e-6, atol=1e-6)
    assert "conv1.conv1.norm._variance" in conversion.made and "bias" in conversion.left["conv1_b"]


def test_a_shortcut_without_convolution():
    """In other code bases' ResNet-18, the first block's shortcut has no convolution."""
    conversion = converted(foreign.arrays(foreign.mmdet(**SMALL), seed=3))
    short = fill(ConvNorm(8, 8, 1), conversion.arrays, "backbone.res2.res2a.short")
    x = paddle.randn([2, 8, 5, 6])
    assert np.allclose(short(x).numpy(), x.numpy(), rtol=1e-6, atol=1e-6)
    assert {name.split(".")[3] for name in conversion.made if "short" in name} == {"short"}
    assert not any("short" in name for name in converted(foreign.arrays(foreign.mmdet(34, width=8))).missing)


def test_convolutions_without_bias():
    """MMDetection's towers have none before a norm."""
    conversion = converted(foreign.arrays(foreign.mmdet(**SMALL), seed=4))
    made = [name for name in conversion.made if "tower_conv" in name]
    assert len(made) == 8 and all(name.endswith(".conv.bias") for name in made)
    assert all(np.array_equal(conversion.arrays[name], np.zeros(32)) for name in made)


def test_classes_of_coco_in_torchvision():
    """A row per category id: row 90 is the toothbrush, the last of COCO's 80 categories."""
    shapes = foreign.torchvision(**SMALL)
    values = foreign.arrays(shapes, seed=5)
    weight, bias = (values[f"head.classification_head.cls_logits.{part}"] for part in ("weight", "bias"))
    conversion = converted(values)
    arrays = conversion.arrays
    assert arrays["fcos_head.fcos_head_cls.weight"].shape == (80, 32, 3, 3) and conversion.network.num_classes == 80
    for row, (number, _) in enumerate(COCO_CATEGORIES):
        assert np.array_equal(arrays["fcos_head.fcos_head_cls.weight"][row], weight[number])
        assert arrays["fcos_head.fcos_head_cls.bias"][row] == bias[number]
    assert conversion.notes == ["of the 91 rows of its classification, the rows of COCO's 80 categories"]
    # Its levels have no scales of their own.
    assert all(conversion.arrays[f"fcos_head.p{level}_feat.scale_reg"].tolist() == [1.0] for level in range(3, 8))
    assert all(np.array_equal(arrays[n], values[conversion.names[n]]) for n in arrays if n.startswith("neck"))


def test_classes_of_other_data_in_torchvision():
    values = foreign.arrays(foreign.torchvision(**SMALL, rows=4), seed=6)
    conversion = converted(values)
    weight = conversion.arrays["fcos_head.fcos_head_cls.weight"]
    assert np.array_equal(weight, values["head.classification_head.cls_logits.weight"][1:])
    assert conversion.network.num_classes == 3 and "background" in conversion.notes[0]


def test_classes_elsewhere_are_all_rows():
    for shapes in (foreign.mmdet(**SMALL, classes=91), foreign.fcos_plus(**SMALL, classes=91)):
        conversion = converted(foreign.arrays(shapes))
        assert conversion.arrays["fcos_head.fcos_head_cls.bias"].shape == (91,) and conversion.notes == []


def sample(image, y, x):
    """Bilinear value of (C, H, W) at a point; nothing lies outside."""
    top, left = int(np.floor(y)), int(np.floor(x))
    total = np.zeros(len(image))
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += image[:, row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def deformable(image, weight, bias, offsets, masks, order):
    """MMDetection's modulated deformable 3x3 convolution of (C, H, W), as its paper defines it (arXiv:1811.11168).

    offsets (18, H, W): for each of the nine points, row by row, how far it moves along y, then along x (order "yx").
    masks (9, H, W): between 0 and 1.
    """
    result = np.zeros((len(weight), *image.shape[1:]))
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            for point in range(9):
                move = dict(zip(order, offsets[2 * point : 2 * point + 2, i, j]))
                y, x = i + point // 3 - 1 + move["y"], j + point % 3 - 1 + move["x"]
                value = sample(image, y, x) * masks[point, i, j]
                result[:, i, j] += weight[:, :, point // 3, point % 3] @ value
    return result + bias[:, None, None]


def convolve(image, weight, bias):
    """A 3x3 convolution of (C, H, W)."""
    still = np.zeros((18, *image.shape[1:]))
    return deformable(image, weight, bias, still, np.ones((9, *image.shape[1:])), "yx")


def offsets_and_masks(image, values, name):
    """Split conv_offset's output: two thirds are offsets, one third masks before their sigmoid."""
    out = convolve(image, values[f"{name}.weight"], values[f"{name}.bias"])
    first, second, mask = np.split(out, 3)
    return np.concatenate([first, second]), 1 / (1 + np.exp(-mask))


@pytest.mark.parametrize("part", ["tower", "backbone"])
def test_deformable_convolutions(part):
    """The order of offsets and masks is the same in both: y before x, masks last."""
    shapes = foreign.mmdet(50, width=8, channels=32, dcn=".conv_offset", dcn_tower=[3], tower_bias=True)
    values = foreign.arrays(shapes, seed=7)
    theirs = "bbox_head.reg_convs.3.conv" if part == "tower" else "backbone.layer2.1.conv2"
    for name in ("weight", "bias"):
        values[f"{theirs}.conv_offset.{name}"] *= 5  # beyond the edges, too
    arrays = converted(values).arrays
    channels = 32 if part == "tower" else 16
    image = np.random.default_rng(8).normal(size=(channels, 5, 6)).astype(np.float32)
    if part == "tower":
        name = "fcos_head.fcos_feat.fcos_head_reg_tower_conv_3.conv"
        ours, bias = fill(TowerDeformConv(channels, channels, bias=True), arrays, name), values[f"{theirs}.bias"]
    else:
        ours, bias = ConvNorm(channels, channels, 3, deformable=True), np.zeros(channels)
        fill(ours, arrays, "backbone.res3.res3b.branch2b")
        ours.norm = paddle.nn.Identity()
    actual = ours(paddle.to_tensor(image[None])).numpy()[0]
    offsets, masks = offsets_and_masks(image, values, f"{theirs}.conv_offset")
    assert np.abs(offsets).max() > 3 and np.ptp(masks) > 0.5
    expected = {
        order: deformable(image, values[f"{theirs}.weight"], bias, offsets, masks, order) for order in ("yx", "xy")
    }
    assert np.allclose(actual, expected["yx"], rtol=1e-3, atol=1e-4)
    assert np.abs(actual - expected["xy"]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("bbox_head.conv_reg.weight", np.zeros((16, 32, 3, 3)), "16 rows: only one point per location"),
        ("bbox_head.cls_convs.3.conv.conv_offset.weight", np.zeros((18, 32, 3, 3)), "18 rows: only DCNv2"),
        ("bbox_head.conv_cls.weight", np.zeros(()), "has 0 dimensions, expected 4"),
        ("backbone.bn1.weight", np.zeros((8, 1)), "has 2 dimensions, expected 1"),
        ("bbox_head.scales.0.scale", np.zeros(2), "has 2 values, expected 1"),
        ("backbone.conv1.weight", np.zeros((8, 3, 7, 7), complex), "type complex128"),
        ("bbox_head.fcos_cls.weight", np.zeros((80, 32, 3, 3)), "the same part of the network"),
    ],
)
def test_what_cannot_be_used(name, value, message):
    values = foreign.arrays(foreign.mmdet(**SMALL, dcn_tower=[3]))
    with pytest.raises(ConversionError, match=message):
        converted({**values, name: value})


def test_diverged_weights():
    values = foreign.arrays(foreign.mmdet(**SMALL))
    values["bbox_head.conv_cls.bias"] = np.full(80, np.nan, np.float32)
    assert converted(values).notes == ["bbox_head.conv_cls.bias holds NaN or infinite values: its training diverged"]
