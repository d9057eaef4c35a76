"""The network and its losses against a reference implementation on real images."""

import json

import numpy as np
import paddle
import pytest
from reference import prepared_samples

from ppdet.core.workspace import load_config
from ppdet.data.transforms import Gt2FCOSTarget
from ppdet.modeling.losses import FCOSLoss

STATE_DICTS = {
    "fcos_r50_fpn_1x_coco": ("fcos_r50_fpn_1x_coco", []),
    "fcos_dcn_r50_fpn_1x_coco": ("fcos_dcn_r50_fpn_1x_coco", []),
    "fcos_r50vd_ssld_fpn": ("fcos_r50vd_ssld_fpn_1x_coco", []),
    "fcos_r18_fpn": ("fcos_r50_fpn_1x_coco", ["ResNet.depth=18"]),
    "fcos_r101_fpn": ("fcos_r50_fpn_1x_coco", ["ResNet.depth=101"]),
    "fcos_r50va_fpn": ("fcos_r50_fpn_1x_coco", ["ResNet.variant=a"]),
    "fcos_x101_64x4d_fpn": (
        "fcos_r50_fpn_1x_coco",
        ["ResNet.depth=101", "ResNet.groups=64", "ResNet.base_width=4"],
    ),
    "denseteacher_fcos_r50_fpn_coco_semi010": (
        "fcos_r50_fpn_iou_1x_coco",
        ["FCOSHead.num_shift=0", "ResNet.depth=50"],
    ),
}


@pytest.mark.parametrize("golden", STATE_DICTS)
def test_state_dict(golden, shared):
    """Names, shapes, trainability, learning-rate multiplier and decay of every parameter."""
    config, overrides = STATE_DICTS[golden]
    model = load_config(f"configs/fcos/{config}.yml", overrides).create("FCOS")
    expected = json.loads((shared / "goldens" / f"state_dict_{golden}.json").read_text())["parameters"]
    actual = {}
    for name, value in model.state_dict().items():
        decay = getattr(value, "regularizer", None)
        actual[name] = {
            "shape": list(value.shape),
            "trainable": not value.stop_gradient,
            "lr_mult": getattr(value, "optimize_attr", {"learning_rate": 1.0})["learning_rate"],
            "decay": None if decay is None else decay._coeff,
        }
    assert actual == expected


@pytest.fixture
def forward(shared):
    return np.load(shared / "goldens" / "forward_fcos_r50_fpn_1x_coco.npz")


@pytest.fixture
def targets(shared, forward):
    """Targets of the golden's images, made by our own data path."""
    samples = Gt2FCOSTarget()(prepared_samples(shared, forward["image_ids"]))
    keys = ("target_labels", "target_distances", "target_centerness")
    return {key: paddle.to_tensor(np.stack([s[key] for s in samples])) for key in keys}


def test_maps_and_detections(base, forward):
    base.eval()
    with paddle.no_grad():
        maps = base.predict_maps(paddle.to_tensor(forward["image"]))
        rows, rows_per_image = base.detect(maps, paddle.to_tensor(forward["scale_factor"]))
    for level in range(5):
        for name, tensors in (
            ("cls", maps.logits),
            ("reg", base.in_pixels(maps).distances),
            ("ctn", maps.quality),
        ):
            golden = forward[f"{name}{level}"]
            assert np.allclose(tensors[level].numpy(), golden, rtol=1e-3, atol=1e-3), (name, level)
    assert rows_per_image.tolist() == forward["bbox_num"].tolist()
    assert np.allclose(rows.numpy(), forward["bbox"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("quality", ["centerness", "iou"])
def test_losses_and_gradients(base, forward, targets, quality):
    base.train()
    maps = base.predict_maps(paddle.to_tensor(forward["image"]))
    kinds = sorted({key.split(".")[1] for key in forward.files if key.startswith(f"{quality}.") and "grad" not in key})
    assert {"giou", "linear_iou"} <= set(kinds)
    for kind in kinds:
        losses = FCOSLoss(quality=quality, iou_loss_type=kind)(maps, targets)
        for name in ("loss", "loss_cls", "loss_box", "loss_quality"):
            assert float(losses[name]) == pytest.approx(float(forward[f"{quality}.{kind}.{name}"]), rel=1e-3)

    FCOSLoss(quality=quality, iou_loss_type="giou")(maps, targets)["loss"].backward()
    parameters = dict(base.named_parameters())
    names = [str(name) for name in forward[f"{quality}.grad_names"]]
    assert {n for n, p in parameters.items() if p.grad is not None} == set(names)
    for name, norm in zip(names, forward[f"{quality}.grad_norms"]):
        assert float(parameters[name].grad.norm()) == pytest.approx(float(norm), rel=1e-2, abs=1e-7), name
