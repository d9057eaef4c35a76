"""The whole detector with oneDNN's layers and with Paddle's."""

import functools

import numpy as np
import paddle
import pytest
from processors import needs_bfloat16

from ppdet.core.workspace import load_config
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.modeling import cpu

pytestmark = pytest.mark.skipif(not cpu.ready(), reason="oneDNN cannot be used on this machine")

VARIANTS = {
    "trained batch norm, variant d": ["ResNet.variant=d", "ResNet.freeze_norm=false", "ResNet.freeze_at=-1"],
    "stored statistics, variant a": [
        "ResNet.variant=a",
        "ResNet.freeze_norm=statistics",
        "ResNet.freeze_at=-1",
        "FCOSHead.norm_reg_targets=false",
    ],
    "frozen, squeeze and excitation": ["ResNet.std_senet=true"],
    "group norm everywhere, frozen in the backbone": ["ResNet.norm_type=gn", "FPN.norm_type=gn"],
    "pyramid with batch norm, C5": ["FPN.norm_type=bn", "FPN.use_c5=true"],
    "no extra convolutions": ["FPN.has_extra_convs=false"],
    "deformable": ["ResNet.dcn_v2_stages=[3]", "FCOSHead.fcos_feat.use_dcn=true"],
}


def losses_and_gradients(model, batch):
    for parameter in model.parameters():
        parameter.clear_grad()
    losses = model.loss(model.predict_maps(batch["image"]), batch)
    losses["loss"].backward()
    gradients = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if not p.stop_gradient}
    return {k: v.numpy() for k, v in losses.items()}, gradients


def make_batch():
    rng = np.random.default_rng(0)
    image = rng.standard_normal((3, 96, 128)).astype("float32")
    boxes = np.array([[4, 4, 60, 50], [30, 20, 120, 90], [80, 60, 96, 72]], "float32")
    sample = {"image": image, "gt_bbox": boxes, "gt_class": np.array([[0], [1], [2]])}
    (sample,) = Gt2FCOSTarget()([sample])
    keys = ("image", "target_labels", "target_distances", "target_centerness")
    return {k: paddle.to_tensor(np.stack([sample[k], sample[k]])) for k in keys}


@functools.lru_cache(maxsize=1)
def by_paddle(name):
    """The variant, a batch, and losses and gradients of Paddle's own layers, which both types are compared with."""
    paddle.seed(0)
    options = ["pretrain_weights=null", "ResNet.depth=18", "num_classes=3", *VARIANTS[name]]
    model, batch = load_config("configs/fcos/fcos_r50_fpn_1x_coco.yml", options).create("FCOS"), make_batch()
    model.train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    cpu.set_enabled(False)
    try:
        expected = losses_and_gradients(model, batch)
    finally:
        cpu.set_enabled(True)
    return model, state, batch, expected


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=needs_bfloat16)])
@pytest.mark.parametrize("name", VARIANTS)
def test_losses_and_gradients_agree(name, dtype):
    model, state, batch, (expected, expected_gradients) = by_paddle(name)
    model.set_state_dict(state)
    with cpu.compute_in(dtype):
        losses, gradients = losses_and_gradients(model, batch)
    assert expected_gradients.keys() == gradients.keys()
    for key in ("loss", "loss_cls", "loss_box", "loss_quality"):
        np.testing.assert_allclose(losses[key], expected[key], rtol={"float32": 1e-4, "bfloat16": 3e-2}[dtype])
    ours, theirs = (np.concatenate([g[key].ravel() for key in gradients]) for g in (gradients, expected_gradients))
    norm = np.linalg.norm(theirs)
    # Batch norm over few pixels magnifies rounding, and a ReLU may open or close with it.
    if dtype == "float32":
        assert np.linalg.norm(ours - theirs) <= 2e-2 * norm
    else:
        assert ours @ theirs >= 0.8 * np.linalg.norm(ours) * norm
