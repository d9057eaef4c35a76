"""Factors of the learning rate and of decay that layers give their parameters, and what an optimizer makes of them."""

import pytest

from ppdet.core.workspace import load_config
from ppdet.modeling.backbones import ResNet
from ppdet.modeling.heads.fcos_head import FCOSFeat, FCOSHead
from ppdet.optimizer import OptimizerBuilder

FACTORS = [0.5, 0.25, 0.125, 2.0]


def factor(parameter):
    return parameter.optimize_attr["learning_rate"]


@pytest.mark.parametrize("norm_type", ["bn", "sync_bn", "gn"])
def test_each_stage_has_its_own_factor_for_weights_and_norms(norm_type):
    backbone = ResNet(
        depth=50, lr_mult_list=FACTORS, norm_type=norm_type, norm_decay=0.5, freeze_norm=False, freeze_at=-1,
        dcn_v2_stages=[2, 3],
    )  # fmt: skip
    seen = set()
    for name, parameter in backbone.named_parameters():
        if parameter.stop_gradient:  # stored statistics
            continue
        stage = name.split(".")[0]
        offsets = "conv_offset" in name  # start at zero, and learn at the plain rate
        expected = 1.0 if stage == "conv1" or offsets else FACTORS[int(stage[3:]) - 2]
        assert factor(parameter) == expected, name
        decay = None if parameter.regularizer is None else parameter.regularizer._coeff
        assert decay == (0.5 if ".norm." in name else None), name
        seen.add((stage, name.rsplit(".", 2)[-2]))
    assert {(f"res{i}", kind) for i in (2, 3, 4, 5) for kind in ("conv", "norm")} <= seen
    assert {("res4", "conv_offset"), ("res5", "conv_offset"), ("conv1", "norm")} <= seen


def test_frozen_norms_have_none():
    backbone = ResNet(depth=18, lr_mult_list=FACTORS, freeze_norm=True, freeze_at=-1)
    for name, parameter in backbone.named_parameters():
        if not name.endswith(("_mean", "_variance")):
            assert (factor(parameter) == 0.0) == (".norm." in name), name
        assert parameter.trainable == (".norm." not in name), name


def test_a_step_is_as_long_as_its_stages_factor():
    """Stochastic gradient descent without momentum and decay: rate * factor * gradient."""
    backbone = ResNet(depth=18, lr_mult_list=FACTORS, freeze_norm=False, freeze_at=-1)
    before = {name: p.numpy().copy() for name, p in backbone.named_parameters()}
    optimizer = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=None)(0.5, backbone)
    sum(parameter.sum() for parameter in backbone.parameters() if not parameter.stop_gradient).backward()
    optimizer.step()
    for name, parameter in backbone.named_parameters():
        if not parameter.stop_gradient:
            stage = name.split(".")[0]
            length = 0.5 * (1.0 if stage == "conv1" else FACTORS[int(stage[3:]) - 2])
            assert abs(before[name] - length - parameter.numpy()).max() < 1e-5, name


def test_tower_biases_learn_twice_as_fast():
    head = FCOSHead(num_classes=2, fcos_feat=FCOSFeat(num_convs=2))
    for name, parameter in head.named_parameters():
        assert factor(parameter) == (2.0 if "fcos_feat" in name and name.endswith("conv.bias") else 1.0), name


def test_factors_of_a_file_reach_the_optimizer(tiny):
    options = ["ResNet.lr_mult_list=[0.5,0.25,0.125,2.0]", "ResNet.freeze_at=0"]
    cfg = load_config(str(tiny), options)
    model = cfg.create("FCOS")
    optimizer = cfg.create("OptimizerBuilder")(0.1, model)
    listed = {id(parameter) for parameter in optimizer._parameter_list}
    names = {name: p for name, p in model.named_parameters() if id(p) in listed}
    found = {name.split(".")[1]: factor(p) for name, p in names.items() if name.startswith("backbone.res")}
    assert found == {"res3": 0.25, "res4": 0.125}  # the stem and res2 are frozen
