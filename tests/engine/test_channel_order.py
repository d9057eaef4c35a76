"""A network for BGR computes at every step from file to box what the same network for RGB computes.

The same network: the input channels of its first convolution, and means and standard deviations, in reverse order.
"""

from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from ppdet.core.workspace import load_config
from ppdet.deploy.compare import with_area
from ppdet.deploy.detector import Detector
from ppdet.engine.build import build_model
from ppdet.engine.checkpoints.weights import save_weights
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.export.graph import export_model
from ppdet.engine.hooks.picture import draw
from ppdet.engine.predictor import Predictor
from ppdet.engine.trainer import Trainer

NORMALIZE = {
    "rgb": "NormalizeImage: {mean: [122.7717, 115.9465, 102.9801], std: [60, 50, 40], is_scale: false}",
    "bgr": "NormalizeImage: {mean: [102.9801, 115.9465, 122.7717], std: [40, 50, 60], is_scale: false, "
    "channel_order: bgr}",
}
FIRST = "backbone.conv1.conv1.conv.weight"
OPTIONS = ["FCOSHead.nms={name: MultiClassNMS, score_threshold: 0.0, keep_top_k: 20}"]


@pytest.fixture
def configs(tiny):
    """Configurations for RGB and BGR, each with its weights, random ones that give scores of all sizes."""
    text = tiny.read_text()
    paths = {order: tiny.with_name(f"{order}.yml") for order in NORMALIZE}
    for order, path in paths.items():
        path.write_text(text.replace("NormalizeImage: {}", NORMALIZE[order]))
    paddle.seed(3)
    state = build_model(load_config(str(paths["rgb"]))).state_dict()
    for name in ("fcos_head.fcos_head_cls.weight", "fcos_head.fcos_head_reg.weight"):
        state[name].set_value(state[name] * 30)
    configs = {}
    for order, path in paths.items():
        state[FIRST] = state[FIRST].flip(1) if order == "bgr" else state[FIRST]
        save_weights(state, path.with_suffix(".pdparams"))
        weights = path.with_suffix(".pdparams")
        configs[order] = load_config(str(path), [*OPTIONS, f"weights={weights}", f"pretrain_weights={weights}"])
    return configs


@pytest.fixture
def images(tmp_path):
    return sorted(str(path) for path in (tmp_path / "data" / "images").iterdir())


def all_rows(found):
    return np.concatenate([rows for _, rows in found])


def same(rows, others):
    return rows.shape == others.shape and np.allclose(rows, others, rtol=1e-3, atol=1e-2)


def test_training_evaluation_and_pictures(configs, tmp_path):
    losses, numbers, pictures = {}, {}, {}
    for order, cfg in configs.items():
        trainer = Trainer(cfg)
        assert trainer.reader._to_device.normalizer is not None, "images are normalized on the device"
        trainer.batches = [next(iter(trainer.reader))]
        trainer.train_step()
        losses[order] = float(trainer.losses["loss"])
        draw(trainer.batches[0], tmp_path / f"{order}.png", trainer)
        pictures[order] = (tmp_path / f"{order}.png").read_bytes()
        model = build_model(cfg, weights=cfg["weights"])
        numbers[order] = list(Evaluator(cfg)(model).values())
    assert losses["bgr"] == pytest.approx(losses["rgb"], rel=1e-4)
    assert numbers["bgr"] == pytest.approx(numbers["rgb"], abs=1e-3)
    assert pictures["bgr"] == pictures["rgb"]


def test_inference_and_both_kinds_of_export(configs, images, tmp_path):
    expected = all_rows(Predictor(configs["rgb"]).detect(images))
    assert len(expected) > 50 and expected[:, 1].std() > 0.05
    assert same(all_rows(Predictor(configs["bgr"]).detect(images)), expected)
    wrong = load_config(configs["bgr"].path, [*OPTIONS, f"weights={configs['rgb']['weights']}"])
    assert not same(all_rows(Predictor(wrong).detect(images)), expected), "another order of channels is noticed"
    for fused in ("false", "true"):
        options = [*OPTIONS, f"weights={configs['bgr']['weights']}", f"TestReader.fuse_normalize={fused}"]
        folder = export_model(load_config(configs["bgr"].path, options), str(tmp_path / fused))
        kinds = {entry["type"]: entry for entry in yaml.safe_load((folder / "infer_cfg.yml").read_text())["Preprocess"]}
        assert ("NormalizeImage" in kinds) is (fused == "false")
        if fused == "false":
            assert kinds["NormalizeImage"]["channel_order"] == "bgr"
        assert same(all_rows(Detector(folder).detect(images)), with_area(expected)), f"fuse_normalize: {fused}"


def test_files_for_rgb_are_those_that_paddledetection_reads(configs, tmp_path):
    folder = export_model(configs["rgb"], str(tmp_path / "exported"))
    described = yaml.safe_load(Path(folder, "infer_cfg.yml").read_text())["Preprocess"]
    assert {frozenset(entry) for entry in described} == {
        frozenset({"type", "mean", "std", "is_scale", "norm_type"}),
        frozenset({"type"}),
        frozenset({"type", "stride"}),
    }
