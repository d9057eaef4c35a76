"""Every name of every code base maps to one of our names, and every name of ours is reached."""

import json

import foreign
import numpy as np
import pytest

from ppdet.convert.code_bases import CODE_BASES, NO_CATEGORY
from ppdet.convert.conversion import convert
from ppdet.convert.named_arrays import Checkpoint, ConversionError
from ppdet.convert.rules import FIELDS, compile_pattern
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.utils.resnet_names import DEPTHS, block_name


def converted(shapes, code_base="auto"):
    return convert(Checkpoint(foreign.arrays(shapes), [], "", ""), code_base)


@pytest.fixture
def golden(shared):
    """Name -> shape of the state dict of a golden, whole or of its backbone without `backbone.`."""

    def load(name, *, backbone=False):
        content = json.loads((shared / "goldens" / f"state_dict_{name}.json").read_text())["parameters"]
        shapes = {key: tuple(value["shape"]) for key, value in content.items()}
        if not backbone:
            return shapes
        return {key[len("backbone.") :]: shape for key, shape in shapes.items() if key.startswith("backbone.")}

    return load


NARROW = {"width": 16, "channels": 32}
WIDE = {
    "mmdet": (foreign.mmdet(), "mmdet", "fcos_r50_fpn_1x_coco"),
    "mmdet 1.x": (foreign.mmdet(old=True), "mmdet", "fcos_r50_fpn_1x_coco"),
    "mmdet with biases": (foreign.mmdet(tower_bias=True), "mmdet", "fcos_r50_fpn_1x_coco"),
    "fcos_plus": (foreign.fcos_plus(), "fcos_plus", "fcos_r50_fpn_1x_coco"),
    "torchvision": (foreign.torchvision(), "torchvision", "fcos_r50_fpn_1x_coco"),
    "torchvision before 0.14": (foreign.torchvision(old=True), "torchvision", "fcos_r50_fpn_1x_coco"),
    "R18": (foreign.mmdet(18), "mmdet", "fcos_r18_fpn"),
    "R18 of torchvision": (foreign.torchvision(18), "torchvision", "fcos_r18_fpn"),
}
# With few channels, which change no name.
DCN = {**NARROW, "dcn_tower": range(4)}
THIN = {
    "R101": (foreign.mmdet(101, **NARROW), "mmdet", "fcos_r101_fpn"),
    "R101 of fcos_plus": (foreign.fcos_plus(101, **NARROW), "fcos_plus", "fcos_r101_fpn"),
    "X101": (foreign.mmdet(101, groups=2, base_width=32, **NARROW), "mmdet", "fcos_x101_64x4d_fpn"),
    "DCN": (foreign.mmdet(dcn=".conv_offset", tower_bias=True, **DCN), "mmdet", "fcos_dcn_r50_fpn_1x_coco"),
    "DCN 1.x": (foreign.mmdet(dcn="_offset", **DCN), "mmdet", "fcos_dcn_r50_fpn_1x_coco"),
    "R50vd": (foreign.mmdet(variant="d", **NARROW), "mmdet", "fcos_r50vd_ssld_fpn"),
}


@pytest.mark.parametrize("case", [*WIDE, *THIN])
def test_detectors_have_exactly_our_names(case, golden):
    shapes, code_base, name = {**WIDE, **THIN}[case]
    expected, conversion = golden(name), converted(shapes)
    assert (conversion.code_base, conversion.missing) == (code_base, [])
    assert set(conversion.arrays) == set(expected)
    assert set(conversion.names) | set(conversion.made) == set(expected)
    # Only what counts batches has no place here.
    assert set(conversion.left) == {name for name in shapes if name.endswith("num_batches_tracked")}
    assert set(conversion.names.values()) == set(shapes) - set(conversion.left)
    assert all(array.dtype == np.float32 for array in conversion.arrays.values())
    if case in WIDE:
        assert {key: array.shape for key, array in conversion.arrays.items()} == expected


BACKBONES = {
    "R50 of torchvision": (foreign.classifier(), "torchvision", "fcos_r50_fpn_1x_coco"),
    "R18 of torchvision": (foreign.classifier(18), "torchvision", "fcos_r18_fpn"),
    "R50d of timm": (foreign.classifier(variant="d", timm=True), "torchvision", "fcos_r50vd_ssld_fpn"),
    "detectron2": ({**foreign.detectron2(), "stem.fc.weight": (1000, 2048)}, "detectron2", "fcos_r50_fpn_1x_coco"),
    "detectron2's detectors": (foreign.detectron2(prefix="backbone.bottom_up."), "detectron2", "fcos_r50_fpn_1x_coco"),
    "Caffe2": (foreign.caffe2(), "detectron2", "fcos_r50_fpn_1x_coco"),
    "R101 of Caffe2": (foreign.caffe2(101), "detectron2", "fcos_r101_fpn"),
}


@pytest.mark.parametrize("case", BACKBONES)
def test_backbones_have_exactly_our_names(case, golden):
    """Without the leading `backbone.`, as ImageNet classifiers of PaddleDetection are named."""
    shapes, code_base, name = BACKBONES[case]
    conversion = converted(shapes)
    assert (conversion.code_base, conversion.missing) == (code_base, [])
    assert {key: array.shape for key, array in conversion.arrays.items()} == golden(name, backbone=True)
    assert set(conversion.names.values()) | set(conversion.left) == set(shapes)
    assert all("fc" in left or left.endswith(("num_batches_tracked", "conv1_b")) for left in conversion.left)


# What is where, by hand.
PAIRS = {
    "mmdet": {
        "backbone.conv1.weight": "backbone.conv1.conv1.conv.weight",
        "backbone.bn1.running_var": "backbone.conv1.conv1.norm._variance",
        "backbone.layer1.0.conv1.weight": "backbone.res2.res2a.branch2a.conv.weight",
        "backbone.layer2.3.bn2.running_mean": "backbone.res3.res3d.branch2b.norm._mean",
        "backbone.layer3.5.conv3.weight": "backbone.res4.res4f.branch2c.conv.weight",
        "backbone.layer4.0.downsample.0.weight": "backbone.res5.res5a.short.conv.weight",
        "backbone.layer4.0.downsample.1.bias": "backbone.res5.res5a.short.norm.bias",
        "neck.lateral_convs.0.conv.weight": "neck.fpn_inner_res3_sum_lateral.weight",
        "neck.lateral_convs.2.conv.bias": "neck.fpn_inner_res5_sum.bias",
        "neck.fpn_convs.1.conv.weight": "neck.fpn_res4_sum.weight",
        "neck.fpn_convs.3.conv.weight": "neck.fpn_6.weight",
        "neck.fpn_convs.4.conv.bias": "neck.fpn_7.bias",
        "bbox_head.cls_convs.0.conv.weight": "fcos_head.fcos_feat.fcos_head_cls_tower_conv_0.conv.weight",
        "bbox_head.reg_convs.3.gn.bias": "fcos_head.fcos_feat.fcos_head_reg_tower_conv_3.norm.bias",
        "bbox_head.conv_cls.bias": "fcos_head.fcos_head_cls.bias",
        "bbox_head.conv_reg.weight": "fcos_head.fcos_head_reg.weight",
        "bbox_head.conv_centerness.bias": "fcos_head.fcos_head_centerness.bias",
        "bbox_head.scales.0.scale": "fcos_head.p3_feat.scale_reg",
        "bbox_head.scales.4.scale": "fcos_head.p7_feat.scale_reg",
    },
    "fcos_plus": {
        "backbone.body.stem.conv1.weight": "backbone.conv1.conv1.conv.weight",
        "backbone.body.layer2.0.bn1.weight": "backbone.res3.res3a.branch2a.norm.weight",
        "backbone.fpn.fpn_inner2.weight": "neck.fpn_inner_res3_sum_lateral.weight",
        "backbone.fpn.fpn_inner4.weight": "neck.fpn_inner_res5_sum.weight",
        "backbone.fpn.fpn_layer3.bias": "neck.fpn_res4_sum.bias",
        "backbone.fpn.top_blocks.p7.weight": "neck.fpn_7.weight",
        "rpn.head.cls_tower.0.weight": "fcos_head.fcos_feat.fcos_head_cls_tower_conv_0.conv.weight",
        "rpn.head.cls_tower.1.weight": "fcos_head.fcos_feat.fcos_head_cls_tower_conv_0.norm.weight",
        "rpn.head.bbox_tower.9.bias": "fcos_head.fcos_feat.fcos_head_reg_tower_conv_3.conv.bias",
        "rpn.head.bbox_tower.10.bias": "fcos_head.fcos_feat.fcos_head_reg_tower_conv_3.norm.bias",
        "rpn.head.cls_logits.weight": "fcos_head.fcos_head_cls.weight",
        "rpn.head.bbox_pred.weight": "fcos_head.fcos_head_reg.weight",
        "rpn.head.centerness.weight": "fcos_head.fcos_head_centerness.weight",
        "rpn.head.scales.2.scale": "fcos_head.p5_feat.scale_reg",
    },
    "torchvision": {
        "backbone.body.layer3.1.conv2.weight": "backbone.res4.res4b.branch2b.conv.weight",
        "backbone.fpn.inner_blocks.1.0.weight": "neck.fpn_inner_res4_sum_lateral.weight",
        "backbone.fpn.layer_blocks.2.0.bias": "neck.fpn_res5_sum.bias",
        "backbone.fpn.extra_blocks.p6.weight": "neck.fpn_6.weight",
        "head.classification_head.conv.3.weight": "fcos_head.fcos_feat.fcos_head_cls_tower_conv_1.conv.weight",
        "head.regression_head.conv.4.weight": "fcos_head.fcos_feat.fcos_head_reg_tower_conv_1.norm.weight",
        "head.classification_head.cls_logits.weight": "fcos_head.fcos_head_cls.weight",
        "head.regression_head.bbox_reg.weight": "fcos_head.fcos_head_reg.weight",
        "head.regression_head.bbox_ctrness.weight": "fcos_head.fcos_head_centerness.weight",
    },
    "Caffe2": {
        "conv1_w": "conv1.conv1.conv.weight",
        "res_conv1_bn_s": "conv1.conv1.norm.weight",
        "res2_0_branch1_w": "res2.res2a.short.conv.weight",
        "res3_3_branch2b_w": "res3.res3d.branch2b.conv.weight",
        "res5_2_branch2c_bn_b": "res5.res5c.branch2c.norm.bias",
    },
    "detectron2": {
        "stem.conv1.norm.weight": "conv1.conv1.norm.weight",
        "res2.0.shortcut.norm.running_mean": "res2.res2a.short.norm._mean",
        "res4.5.conv1.weight": "res4.res4f.branch2a.conv.weight",
    },
    "R50d of timm": {
        "conv1.0.weight": "conv1.conv1_1.conv.weight",
        "conv1.4.weight": "conv1.conv1_2.norm.weight",
        "bn1.bias": "conv1.conv1_3.norm.bias",
        "layer1.0.downsample.1.weight": "res2.res2a.short.conv.weight",
        "layer2.0.downsample.1.weight": "res3.res3a.short.conv.conv.weight",
        "layer2.0.downsample.2.running_var": "res3.res3a.short.conv.norm._variance",
    },
    "DCN": {
        "backbone.layer2.1.conv2.conv_offset.weight": "backbone.res3.res3b.branch2b.conv_offset.weight",
        "backbone.layer2.1.conv2.weight": "backbone.res3.res3b.branch2b.conv.weight",
        "bbox_head.cls_convs.3.conv.weight": "fcos_head.fcos_feat.fcos_head_cls_tower_conv_3.conv.conv_dcn.weight",
        "bbox_head.reg_convs.3.conv.conv_offset.bias": (
            "fcos_head.fcos_feat.fcos_head_reg_tower_conv_3.conv.conv_offset.bias"
        ),
    },
    "X101": {"backbone.conv1.weight": "backbone.conv1.res_conv1.conv.weight"},
    "R101": {
        "backbone.layer3.0.conv1.weight": "backbone.res4.res4a.branch2a.conv.weight",
        "backbone.layer3.22.conv1.weight": "backbone.res4.res4b22.branch2a.conv.weight",
        "backbone.layer2.3.conv1.weight": "backbone.res3.res3d.branch2a.conv.weight",
    },
}


@pytest.mark.parametrize("case", PAIRS)
def test_what_is_where(case):
    names = converted({**WIDE, **THIN, **BACKBONES}[case][0]).names
    for theirs, ours in PAIRS[case].items():
        assert names[ours] == theirs


def test_the_last_layer_of_towers_deformable():
    """MMDetection's dcn_on_last_conv, and maskrcnn-benchmark's layers of the same kind."""
    tower = "fcos_head.fcos_feat.fcos_head_cls_tower_conv_"
    for shapes in (foreign.mmdet(dcn_tower=[3], **NARROW), foreign.fcos_plus(dcn_tower=[3], **NARROW)):
        conversion = converted(shapes)
        assert conversion.missing == [] and conversion.network.deformable_layers == (3,)
        assert {f"{tower}2.conv.weight", f"{tower}3.conv.conv_dcn.bias"} < set(conversion.arrays)
        assert f"{tower}3.conv.conv_offset.weight" in conversion.arrays
        assert f"{tower}3.conv.weight" not in conversion.arrays


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_depth_follows_from_the_blocks(depth):
    assert converted(foreign.classifier(depth, width=16)).network.depth == depth


def test_names_of_blocks():
    """As in PaddleDetection's published weights."""
    names = {depth: [block_name(DEPTHS[depth][0], 4, i) for i in (0, 1, 5)] for depth in (50, 101)}
    assert names == {50: ["res4a", "res4b", "res4f"], 101: ["res4a", "res4b1", "res4b5"]}
    assert block_name(DEPTHS[152][0], 3, 7) == "res3h"


def test_recognition_is_by_most_names():
    """An unknown name, or missing names, do not change which code base is recognized."""
    shapes = {**foreign.mmdet(**NARROW), "stem.conv1.weight": (1,), "ema_backbone_conv1_weight": (1,)}
    conversion = converted({name: shape for name, shape in shapes.items() if "layer4" not in name})
    assert conversion.code_base == "mmdet" and conversion.network.depth is None
    assert conversion.left["stem.conv1.weight"] == "this detector has no such part"
    assert "average" in conversion.left["ema_backbone_conv1_weight"]


def test_nothing_known():
    with pytest.raises(ConversionError, match=r"none of its 1 arrays has a name of torchvision, mmdet, .*features"):
        converted({"features.0.weight": (3,)})
    with pytest.raises(ConversionError, match="a name of fcos_plus; "):
        converted(foreign.mmdet(**NARROW), "fcos_plus")


def test_other_detectors_give_their_backbone():
    """The necks of other detectors may start at another stage."""
    shapes = {name: s for name, s in foreign.mmdet(**NARROW).items() if not name.startswith("bbox_head.conv_cls")}
    conversion = converted(shapes)
    assert conversion.missing == [] and "conv1.conv1.conv.weight" in conversion.arrays
    assert "only its backbone is converted" in conversion.left["neck.lateral_convs.0.conv.weight"]
    assert not any(name.startswith(("neck", "fcos_head")) for name in conversion.arrays)


@pytest.mark.parametrize("name", CODE_BASES)
def test_tables(name):
    """No name matches two rows of a table, and each row maps a name to one name."""
    rules = CODE_BASES[name].rules
    keys = [(rule.foreign, rule.dimensions) for rule in rules]
    assert len(set(keys)) == len(keys)
    for rule in rules:
        fields = compile_pattern(rule.foreign).groupindex
        assert set(fields) <= set(FIELDS)
        assert "{" not in rule.ours.format(**{field: "" for field in fields})


def test_ids_of_coco_without_a_category():
    assert set(range(91)) - set(NO_CATEGORY) == {number for number, _ in COCO_CATEGORIES}
