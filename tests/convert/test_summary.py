"""The report of a conversion: mapped names, the recognized network, what does not fit, and what to set."""

import foreign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.convert import Checkpoint, ConversionError, convert, needed, suggest, summary_lines, verify
from ppdet.core.workspace import load_config


def converted(shapes, code_base="auto", **more):
    checkpoint = Checkpoint(
        foreign.arrays(shapes), more.get("others", []), more.get("author", ""), more.get("text", "")
    )
    return convert(checkpoint, code_base), checkpoint


THIN = {"width": 16, "channels": 32}


def test_report():
    shapes = {**foreign.mmdet(18, **THIN), "ema_neck": (1,), "bbox_head.extra": (1,), "bbox_head.more": (1,)}
    del shapes["bbox_head.scales.4.scale"], shapes["backbone.layer4.1.conv2.weight"]
    conversion, _ = converted(shapes, others=["epoch"])
    assert summary_lines(conversion) == [
        "mmdet: 149 arrays mapped (backbone 99, neck 16, fcos_head 34)",
        "made 8 (its convolutions before a norm have no bias: zeros): "
        "fcos_head.fcos_feat.fcos_head_cls_tower_conv_0.conv.bias, "
        "fcos_head.fcos_feat.fcos_head_cls_tower_conv_1.conv.bias, "
        "fcos_head.fcos_feat.fcos_head_cls_tower_conv_2.conv.bias, …",
        "made 5 (its first shortcut has no convolution: one that is the identity): "
        "backbone.res2.res2a.short.conv.weight, backbone.res2.res2a.short.norm.weight, "
        "backbone.res2.res2a.short.norm.bias, …",
        "left 20 (a counter that inference does not read): backbone.bn1.num_batches_tracked, "
        "backbone.layer1.0.bn1.num_batches_tracked, backbone.layer1.0.bn2.num_batches_tracked, …",
        "left 1 (an average of the weights, which MMDetection also writes in place of the weights): ema_neck",
        "left 2 (this detector has no such part): bbox_head.extra, bbox_head.more",
        "left 1 (not an array): epoch",
        "missing 2 (backbone 1, fcos_head 1): backbone.res5.res5b.branch2b.conv.weight, fcos_head.p7_feat.scale_reg",
    ]


def test_report_of_a_backbone():
    conversion, _ = converted(foreign.classifier(18, width=16))
    lines = summary_lines(conversion)
    assert lines[0] == "torchvision: 100 arrays mapped (backbone 100)" and lines[-1] == "missing nothing"
    assert "left 2 (the classifier of another data set): fc.weight, fc.bias" in lines


def test_names_of_strangers_stay_in_their_line():
    conversion, _ = converted({**foreign.classifier(18, width=16), "a\nerror: b" + "x" * 1000: (1,)})
    line = next(line for line in summary_lines(conversion) if "no such part" in line)
    assert "a\\nerror: b" in line and len(line) < 250


X101 = {"depth": 101, "groups": 64, "base_width": 4, "width": 64, "channels": 32}
SUGGESTIONS = {
    "looks like fcos_r50_caffe_fpn_gn_1x_coco or fcos_r50_caffe_fpn_gn_ms_2x_coco": foreign.mmdet(**THIN),
    "looks like fcos_r50_caffe_fpn_gn_tricks_1x_coco": foreign.mmdet(**THIN, tower_bias=True),
    "looks like fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco": (
        foreign.mmdet(**THIN, tower_bias=True, dcn=".conv_offset", dcn_tower=[3])
    ),
    "looks like fcos_r101_caffe_fpn_gn_1x_coco or fcos_r101_caffe_fpn_gn_ms_2x_coco": foreign.mmdet(101, **THIN),
    "looks like fcos_x101_64x4d_fpn_gn_ms_2x_coco": foreign.mmdet(**X101),
    "looks like fcosplus_r50_fpn_1x_coco or fcosplus_r50_fpn_1x_center_coco or fcosplus_r50_fpn_1x_center_liou_coco "
    "or fcosplus_r50_fpn_1x_center_giou_coco": foreign.fcos_plus(**THIN),
    "looks like fcosplus_r101_fpn_2x_coco or fcosplus_r101_fpn_2x_center_giou_coco": foreign.fcos_plus(101, **THIN),
    "looks like no published detector of mmdet": foreign.mmdet(18, **THIN),
    "looks like fcos_r50_caffe_fpn_gn_tricks_1x_coco with num_classes=20": (
        foreign.mmdet(**THIN, tower_bias=True, classes=20)
    ),
    "looks like no published detector of mmdet with num_classes=3": foreign.mmdet(**THIN, variant="d", classes=3),
}


@pytest.mark.parametrize("line", SUGGESTIONS)
def test_suggestions(line):
    assert suggest(*converted(SUGGESTIONS[line])) == [line]


def test_suggestion_for_torchvision():
    """Its locations are cells' corners, and its scores square roots."""
    line = suggest(*converted(foreign.torchvision(**THIN)))[0]
    name = line[len("looks like ") :].split()[0]
    head = load_config(f"configs/fcos/{name}.yml", ["ResNet.depth=18"]).create("FCOS").fcos_head
    assert (head.locations.shift, head.decoder.sqrt_score, head.norm_reg_targets, head.centerness_on_reg) == (
        0,
        True,
        True,
        True,
    )
    assert head.nms.score_threshold == 0.2


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("backbone=dict(\n    style='pytorch',", "pytorch"),
        ("'style': 'caffe'", "caffe"),
        ('style = "pytorch"', "pytorch"),
    ],
)
def test_strides_that_no_array_tells(text, style):
    """MMDetection's files contain their configuration; with other strides, the same arrays are another network."""
    lines = suggest(*converted(foreign.mmdet(**THIN), text=text))
    variant = {"caffe": "a", "pytorch": "b"}[style]
    assert lines[1:] == [f"its own configuration says style {style}: ResNet.variant {variant}"]
    assert ("caffe_fpn" in lines[0]) == (style == "caffe")


@pytest.mark.parametrize(
    ("shapes", "author", "settings", "words"),
    [
        (foreign.caffe2(101, width=8), "", "ResNet.depth=101", ["ResNet.variant a", "BGR"]),
        (foreign.detectron2(width=8), "torchvision", "ResNet.depth=50", ["ResNet.variant b"]),
        (foreign.detectron2(width=8, dcn=True), "", "ResNet.depth=50 ResNet.dcn_v2_stages=[1,2,3]", ["do not show"]),
        (foreign.classifier(variant="d", timm=True), "", "ResNet.depth=50 ResNet.variant=d", ["stem"]),
        (foreign.classifier(34, width=8), "", "ResNet.depth=34", ["the same at this depth"]),
    ],
)
def test_suggestions_for_backbones(shapes, author, settings, words):
    first, second = suggest(*converted(shapes, author=author))
    assert first == f"looks like a backbone, for pretrain_weights of a configuration: {settings}"
    assert all(word in second for word in words)


def shapes_of(conversion):
    prefix = "" if conversion.network.num_classes else "backbone."
    return {prefix + name: array.shape for name, array in conversion.arrays.items()}


def test_everything_fits():
    for shapes in (foreign.mmdet(18, **THIN), foreign.classifier(18, width=16)):
        conversion, _ = converted(shapes)
        assert verify(conversion, {**shapes_of(conversion)}) == []
    # A backbone alone is compared with the backbone alone.
    assert verify(conversion, {**shapes_of(conversion), "neck.fpn_6.weight": (1,), "fcos_head.x": (1,)}) == []


@pytest.mark.parametrize(
    ("change", "other", "first", "advice"),
    [
        (
            {"classes": 20},
            {},
            "fcos_head.fcos_head_cls.weight is [20, 32, 3, 3] in the file, [80, 32, 3, 3] in the configuration's model",
            "-o num_classes=20",
        ),
        (
            {"depth": 34},
            {},
            "backbone.res2.res2c.branch2a.conv.weight is in the file, but not in the configuration's model",
            "-o ResNet.depth=34",
        ),
        ({}, {"depth": 34}, "backbone.res2.res2c.branch2a.conv.weight is not in the file", "-o ResNet.depth=18"),
        (
            {"variant": "d"},
            {},
            "backbone.conv1.conv1_1.conv.weight is in the file, but not in the configuration's model",
            "-o ResNet.depth=18 ResNet.variant=d",
        ),
        (
            {"channels": 64},
            {},
            "neck.fpn_inner_res3_sum_lateral.weight is [64, 32, 1, 1] in the file, [32, 32, 1, 1] in the "
            "configuration's model",
            "-o FPN.out_channel=64 FPN.use_c5=false, or FPN.extra_stage",
        ),
        (
            {"dcn_tower": [3]},
            {},
            "fcos_head.fcos_feat.fcos_head_cls_tower_conv_3.conv.conv_dcn.weight is in the file, but not in the "
            "configuration's model",
            "the towers have 4 layers, counted from 0; deformable ones in the file: layers [3]",
        ),
        (
            {},
            {"dcn_tower": [3]},
            "fcos_head.fcos_feat.fcos_head_cls_tower_conv_3.conv.conv_dcn.weight is not in the file",
            "the towers have 4 layers, counted from 0; deformable ones in the file: none",
        ),
    ],
)
def test_what_does_not_fit(change, other, first, advice):
    """`change` modifies the file, `other` the configuration's model."""
    here, _ = converted(foreign.mmdet(**{"depth": 18, **THIN, **change}))
    there, _ = converted(foreign.mmdet(**{"depth": 18, **THIN, **other}))
    lines = verify(here, shapes_of(there))
    assert f"{first}: {advice}" in lines
    assert all("\n" not in line for line in lines)


def test_extra_level_made_of_c5():
    shapes = {**foreign.mmdet(18, **THIN), "neck.fpn_convs.3.conv.weight": (32, 128, 3, 3)}
    here, _ = converted(shapes)
    lines = verify(here, shapes_of(converted(foreign.mmdet(18, **THIN))[0]))
    assert len(lines) == 1 and "neck.fpn_6.weight" in lines[0] and "FPN.use_c5=true" in lines[0]


def test_towers_of_another_length():
    shapes = {name: s for name, s in foreign.mmdet(18, **THIN).items() if "_convs.3" not in name or "neck" in name}
    here, _ = converted(shapes)
    lines = verify(here, shapes_of(converted(foreign.mmdet(18, **THIN))[0]))
    assert len(lines) == 8 and all("FCOSHead.fcos_feat.num_convs=3" in line for line in lines)


def test_incomplete_files():
    """No setting can replace arrays that the file lacks."""
    shapes = foreign.mmdet(18, **THIN)
    whole, _ = converted(shapes)
    del shapes["bbox_head.conv_reg.bias"]
    lines = verify(converted(shapes)[0], shapes_of(whole))
    assert lines == ["fcos_head.fcos_head_reg.bias is not in the file: the file is incomplete, and no setting helps"]


def test_groups():
    here, _ = converted(foreign.mmdet(**X101))
    lines = verify(here, {})
    assert "ResNet.depth=101 ResNet.groups=64 ResNet.base_width=4" in lines[0]
    assert np.prod(here.arrays["backbone.res2.res2a.branch2b.conv.weight"].shape) == 256 * 4 * 9


SHAPES = {name: shape for make in (foreign.mmdet, foreign.torchvision) for name, shape in make(18, **THIN).items()}
KEPT = st.dictionaries(st.sampled_from(list(SHAPES)), st.none(), max_size=40)
CHANGED = st.dictionaries(
    st.sampled_from([name for name in SHAPES if "weight" in name]),
    st.lists(st.integers(0, 3), max_size=5).map(tuple),
    max_size=3,
)


@settings(max_examples=100, deadline=None)
@given(KEPT, CHANGED, st.booleans())
def test_any_selection_of_arrays_of_any_shape(kept, changed, whole):
    """It is converted, reported and compared, or one line says why not."""
    shapes = {**(foreign.mmdet(18, **THIN) if whole else {name: SHAPES[name] for name in kept}), **changed}
    try:
        conversion, checkpoint = converted(shapes)
    except ConversionError as error:
        assert "\n" not in str(error)
        return
    lines = [*summary_lines(conversion), *suggest(conversion, checkpoint), *verify(conversion, {"fcos_head.x": (1,)})]
    assert all(line and "\n" not in line for line in lines)


def test_biases_that_were_made_and_a_model_does_not_have_are_left_out():
    conversion, _ = converted(foreign.mmdet(18, **THIN))
    shapes = {name: array.shape for name, array in conversion.arrays.items()}
    biases = [name for name in conversion.made if name.endswith(".conv.bias")]
    assert len(biases) == 8 and verify(conversion, shapes) == []
    without = {name: shape for name, shape in shapes.items() if name not in biases}
    assert verify(conversion, without) == [] and set(needed(conversion, without)) == set(without)
    # Those that are in the file are needed.
    conversion, _ = converted(foreign.mmdet(18, tower_bias=True, **THIN))
    lines = verify(conversion, without)
    assert len(lines) == 8 and all("FCOSHead.fcos_feat.conv_bias=true" in line for line in lines)
    backbone, _ = converted(foreign.resnet(18, width=16))
    shortcut = "res2.res2a.short.conv.weight"
    assert shortcut in backbone.made
    shapes = {f"backbone.{name}": array.shape for name, array in backbone.arrays.items()}
    assert shortcut in needed(backbone, shapes)
