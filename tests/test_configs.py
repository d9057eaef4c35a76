"""Every configuration builds, trains a step on two images, is evaluated and exported: with its own settings, on small
images, and with a fraction of its channels. Networks of full width: tests/modeling/test_golden.py."""

import json
import math
import re
import shutil

import paddle
import pytest
import yaml
from noise import add_noise
from small_configs import CONFIGS, narrower, overrides
from tiny import write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import save_weights
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.export.graph import export_model
from ppdet.engine.trainer import Trainer
from ppdet.modeling.backbones import resnet

# One configuration of each kind of export; `test_all_kinds_of_exports_are_among_these` says what a kind is.
EXPORTED = (
    "denseteacher_fcos_r18vd_bccd_semi010",
    "denseteacher_fcos_r50_fpn_coco_semi010_lsj",
    "fcos_dcn_r50_fpn_1x_coco",
    "fcos_r101_caffe_fpn_gn_1x_coco",
    "fcos_r18_fpn_shapes",
    "fcos_r18vd_fpn_bccd",
    "fcos_r50_caffe_fpn_gn_1x_coco",
    "fcos_r50_caffe_fpn_gn_tricks_1x_coco",
    "fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco",
    "fcos_r50_fpn_1x_coco",
    "fcos_r50_fpn_iou_1x_coco",
    "fcos_r50_fpn_torchvision_26e_coco",
    "fcos_r50_view1025_12e_coco",
    "fcos_r50vd_ssld_fpn_1x_coco",
    "fcos_r50vd_ssld_fpn_iou_1x_coco",
    "fcos_x101_64x4d_fpn_gn_ms_2x_coco",
    "fcosplus_r101_fpn_2x_coco",
    "fcosplus_r50_fpn_1x_coco",
)
# What an export does not read: settings of training and evaluation, where data and weights lie, how often to log.
TRAINING = (
    *("TrainDataset", "UnsupTrainDataset", "EvalDataset", "TestDataset", "TrainReader", "SemiTrainReader"),
    *("EvalReader", "worker_num", "LearningRate", "OptimizerBuilder", "auto_lr", "amp", "epoch", "max_iters"),
    *("ssod_method", "DenseTeacher", "use_simple_ema", "ema_decay", "ema_start_iters", "semi_start_iters"),
    *("pretrain_weights", "weights", "save_dir", "log_iter", "snapshot_epoch", "num_classes"),
)
TRAINING_OF = {"ResNet": ("lr_mult_list", "freeze_at", "norm_decay"), "FCOSHead": ("fcos_loss",)}


@pytest.fixture(scope="session")
def two_images(tmp_path_factory, request):
    """A data set of two images, from BCCD if available, and the number of its classes."""
    folder = tmp_path_factory.mktemp("two")
    try:
        source = request.getfixturevalue("shared") / "data" / "bccd"
    except pytest.skip.Exception:
        return write_tiny_coco(folder, images=2), 2
    content = json.loads((source / "annotations" / "train.json").read_text())
    content["images"] = content["images"][:2]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
    (folder / "images").mkdir()
    for image in content["images"]:
        shutil.copy(source / "images" / image["file_name"], folder / "images")
    (folder / "train.json").write_text(json.dumps(content))
    return folder, len(content["categories"])


@pytest.fixture
def narrow(path, monkeypatch):
    """Make the networks that the test builds of `path` narrow; the options that go with it."""
    channels, options = narrower(path)
    monkeypatch.setattr(resnet, "STAGE_CHANNELS", channels)
    return options


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration(path, narrow, two_images, tmp_path, log):
    data, classes = two_images
    options = [*overrides(load_config(str(path)), data, classes, tmp_path), *narrow]
    cfg = load_config(str(path), options)
    trainer = Trainer(cfg)
    before = {name: value.numpy() for name, value in trainer.model.named_parameters() if not value.stop_gradient}
    trainer.model.train()
    trainer.reader.set_epoch(0, 0)
    trainer.iteration = trainer.method.complete_from
    steps = trainer.read_steps()
    trainer.batches = next(steps)
    steps.close()
    trainer.train_step()
    assert math.isfinite(float(trainer.losses["loss"])) and trainer.batches[0]["image"].shape[0] >= 2
    after = dict(trainer.model.named_parameters())
    moved = {name.split(".")[0] for name, value in before.items() if (after[name].numpy() != value).any()}
    assert moved == {"backbone", "neck", "fcos_head"}

    numbers = Evaluator(cfg)(trainer.model)
    assert len(numbers) == 12 and all(-1 <= value <= 1 for value in numbers.values())

    if path.stem in EXPORTED:
        paddle.seed(3)
        add_noise(trainer.model.fcos_head)  # a model without detections would be exported twice, to compare all else
        save_weights(trainer.model.state_dict(), tmp_path / "weights.pdparams")
        cfg = load_config(str(path), [*options, f"weights={tmp_path}/weights"])
        folder = export_model(cfg, str(tmp_path / "exported"))
        assert re.search(r"checked in paddle, fp32: \d+ detections, none unmatched", log.text)
        described = yaml.safe_load((folder / "infer_cfg.yml").read_text())
        assert len(described["label_list"]) == classes and described["arch"] == "FCOS"
        assert {file.suffix for file in folder.iterdir()} >= {".pdiparams", ".yml"}


def test_all_kinds_of_exports_are_among_these():
    """Two configurations are of one kind when all settings that an export reads are the same."""
    kinds = {}
    for path in CONFIGS:
        settings = {key: value for key, value in load_config(str(path)).to_dict().items() if key not in TRAINING}
        for component, names in TRAINING_OF.items():
            settings[component] = {k: v for k, v in settings[component].items() if k not in names}
        kinds.setdefault(json.dumps(settings, sort_keys=True), set()).add(path.stem)
    missing = [names for names in kinds.values() if not names & set(EXPORTED)]
    assert not missing, "add one of each to EXPORTED"
    assert sum(map(len, kinds.values())) == len(CONFIGS) and set(EXPORTED) <= {path.stem for path in CONFIGS}
