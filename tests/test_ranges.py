"""Constructors refuse numbers out of their range in one line that names the parameter."""

import math

import pytest

from ppdet.core.registry import get_schema
from ppdet.core.workspace import import_components, load_config
from ppdet.utils.errors import ConfigError

CASES = [
    ("FCOSFeat", "num_convs", 0, "at least 1"),
    ("FCOSFeat", "feat_out", 0, "at least 1"),
    ("FCOSHead", "num_classes", 0, "at least 1"),
    ("FCOSHead", "prior_prob", 2, "above 0 and below 1"),
    ("FCOSHead", "prior_prob", math.nan, "above 0 and below 1"),
    ("FCOSHead", "class_threshold", 1, "above 0 and below 1"),
    ("FCOSHead", "level_top_k", 0, "at least 1"),
    ("FCOSHead", "level_top_k_of", "boxes", "one of locations, classes"),
    ("ResNet", "depth", 20, "one of 18, 34, 50, 101, 152"),
    ("ResNet", "groups", 0, "at least 1"),
    ("ResNet", "base_width", 0, "at least 1"),
    ("ResNet", "width_mult", 0.2, "at least 0.25 and at most 1"),
    ("ResNet", "norm_decay", -1, "at least 0"),
    ("ResNet", "num_stages", 5, "at least 1 and at most 4"),
    ("ResNet", "freeze_at", 4, "at least -1 and at most 3"),
    ("FCOSLoss", "loss_alpha", 1.5, "at least 0 and at most 1"),
    ("FCOSLoss", "loss_gamma", -1, "at least 0 and below inf"),
    ("FCOSLoss", "reg_weights", -1, "at least 0 and below inf"),
    ("FCOSLoss", "quality", "area", "one of centerness, iou"),
    ("MultiClassNMS", "nms_threshold", 1.5, "at least 0 and at most 1"),
    ("SoftNMS", "method", "hard", "one of gaussian, linear"),
    ("SoftNMS", "sigma", 1e-7, "at least 1e-06"),
    ("SoftNMS", "sigma", 1e7, r"at most 1e\+06"),
    ("SoftNMS", "nms_threshold", -0.1, "at least 0 and at most 1"),
    ("SoftNMS", "score_threshold", float("nan"), "at least 0 and at most 1"),
    ("SoftNMS", "nms_top_k", -1, "at least 1 and at most 4000"),
    ("SoftNMS", "keep_top_k", 1001, "at least 1 and at most 1000"),
    ("Gt2FCOSTarget", "min_box_area", -1, "at least 0"),
    ("RandomCrop", "prob", 1.5, "a probability from 0 to 1"),
    ("RandomCrop", "num_attempts", 0, "at least 1"),
    ("RandomExpand", "prob", -0.5, "a probability from 0 to 1"),
    ("RandomExpand", "ratio", 1, "above 1"),
    ("RandomDistort", "prob", 2, "a probability from 0 to 1"),
    ("RandomDistort", "count", -1, "at least 0"),
    ("PiecewiseDecay", "gamma", -0.1, "at least 0 and below inf"),
    ("CosineDecay", "min_lr_ratio", 2, "at least 0 and at most 1"),
    ("ExpWarmup", "power", 0, "at least 1"),
    ("LinearWarmup", "start_factor", -1, "at least 0 and below inf"),
    ("OptimizerBuilder", "clip_grad_by_norm", 0, "above 0"),
]


@pytest.mark.parametrize(("component", "parameter", "value", "expected"), CASES)
def test_a_value_out_of_range_is_named(component, parameter, value, expected):
    import_components()
    others = {"max_epochs": 12} if component == "CosineDecay" else {}
    with pytest.raises(ValueError, match=rf"^{component}\.{parameter} is {value!r}[;,] .*{expected}[^\n]*$"):
        get_schema(component).cls(**others, **{parameter: value})


@pytest.mark.parametrize("component", ["FCOSHead", "Gt2FCOSTarget"])
def test_a_location_lies_within_its_cell(component):
    import_components()
    others = {"fcos_feat": get_schema("FCOSFeat").cls(num_convs=1)} if component == "FCOSHead" else {}
    with pytest.raises(ValueError, match=r"^num_shift is 7; it must be at least 0 and at most 1$"):
        get_schema(component).cls(**others, num_shift=7)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["FCOSHead.prior_prob=2"], r"FCOS\.fcos_head: FCOSHead\.prior_prob is 2; it must be above 0 and below 1$"),
        (["FCOSHead.nms=null"], r"FCOSHead\.nms: expected a component, got null$"),
        (["FCOSFeat.norm_type=gn", "FCOSHead.fcos_feat.feat_out=48"], "need a multiple of 32 channels, not 48$"),
        (["FPN.extra_stage=-1"], r"FPN\.extra_stage is -1; it must be at least 0 and at most 8$"),
    ],
)
def test_a_configuration_out_of_range_is_one_line(options, expected):
    with pytest.raises(ConfigError, match=rf"^[^\n]*{expected}"):
        load_config("fcos_r50_fpn_1x_coco", options).create("FCOS")


def test_training_without_a_loss_is_one_line():
    model = load_config("fcos_r50_fpn_1x_coco", ["FCOSHead.fcos_loss=null", "ResNet.depth=18"]).create("FCOS")
    with pytest.raises(ConfigError, match=r"^FCOSHead\.fcos_loss is null: training needs a loss[^\n]*$"):
        model.normalizers([])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["ResNet.dcn_v2_stages=[1,4]"], r"ResNet\.dcn_v2_stages is 4; it must be at least -1 and at most 3"),
        (
            ["ResNet.num_stages=3", "ResNet.return_idx=[1,2]", "ResNet.dcn_v2_stages=[1,2,3]"],
            r"ResNet\.dcn_v2_stages is 3; it must be at least -1 and at most 2",
        ),
        (["ResNet.freeze_at=4"], r"ResNet\.freeze_at is 4; it must be at least -1 and at most 3"),
        (["ResNet.return_idx=[1,2,4]"], r"ResNet\.return_idx is \[1, 2, 4\]; values must be 0 to 3"),
        (["ResNet.lr_mult_list=[1,1,1]"], r"ResNet\.lr_mult_list has 3 values; it needs 4, for res2 to res5"),
        (["FCOS.backbone={name: ResNet, freeze_at: 9}"], r"ResNet\.freeze_at is 9; it must be at least -1 and at most"),
    ],
)
def test_lists_of_stages_are_checked_when_the_file_is_read(options, expected):
    with pytest.raises(ConfigError, match=rf"^-o: (ResNet|FCOS\.backbone): {expected}[^\n]*$"):
        load_config("fcos_r50_fpn_1x_coco", options)


def test_a_stage_that_is_not_built_is_named_with_its_line(tmp_path):
    path = tmp_path / "deformable.yml"
    path.write_text("architecture: FCOS\nResNet:\n  num_stages: 2\n  return_idx: [0, 1]\n  dcn_v2_stages: [1, 2]\n")
    with pytest.raises(ConfigError, match=r"deformable\.yml:5: ResNet: ResNet\.dcn_v2_stages is 2; [^\n]* at most 1$"):
        load_config(path)
