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
from ppdet.engine.export import check
from ppdet.engine.export.graph import export_model
from ppdet.engine.trainer import Trainer
from ppdet.modeling.backbones import resnet

# Between them they have every value of every setting that an export reads: `test_every_value_is_exported`.
EXPORTED = (
    "denseteacher_fcos_r18vd_bccd_semi010",
    "fcos_dcn_r50_fpn_1x_coco",
    "fcos_r18_fpn_shapes",
    "fcos_r18vd_fpn_bccd",
    "fcos_r18vd_light_crops",
    "fcos_r50_caffe_fpn_gn_tricks_dcn_1x_coco",
    "fcos_r50_fpn_1x_coco",
    "fcos_r50_fpn_torchvision_26e_coco",
    "fcos_r50_view1025_12e_coco",
    "fcos_r50vd_ssld_finetune",
    "fcos_x101_64x4d_fpn_gn_ms_2x_coco",
    "fcosplus_r101_fpn_2x_coco",
)
# What an export does not read: settings of training and evaluation, where data and weights lie, how often to log.
TRAINING = (
    *("TrainDataset", "UnsupTrainDataset", "EvalDataset", "TestDataset", "TrainReader", "SemiTrainReader"),
    *("EvalReader", "worker_num", "LearningRate", "OptimizerBuilder", "auto_lr", "amp", "epoch", "max_iters"),
    *("ssod_method", "DenseTeacher", "use_ema", "use_simple_ema", "ema_decay"),
    *("ema_start_iters", "semi_start_iters"),
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
def test_configuration(path, narrow, two_images, tmp_path, log, monkeypatch):
    monkeypatch.setattr(check, "LONG_SIDE", 192)  # of the images in which an export is compared
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


def values(settings, path=()):
    """Where every value of nested settings is, and the value as text; transforms are one setting each."""
    if isinstance(settings, list) and settings and all(isinstance(entry, dict) for entry in settings):
        for entry in settings:
            yield from values(entry, path)
    elif isinstance(settings, dict) and settings:
        for key, value in settings.items():
            yield from values(value, (*path, key))
    else:
        yield path, json.dumps(settings)


def test_every_value_is_exported():
    """An export differs by what it reads: each value that a configuration gives to such a setting is exported once."""
    found = {}
    for path in CONFIGS:
        settings = {key: value for key, value in load_config(str(path)).to_dict().items() if key not in TRAINING}
        for component, names in TRAINING_OF.items():
            settings[component] = {k: v for k, v in settings[component].items() if k not in names}
        for value in values(settings):
            found.setdefault(value, set()).add(path.stem)
    assert len({value for path, value in found if path == ("ResNet", "depth")}) == 3
    missing = {value: names for value, names in found.items() if not names & set(EXPORTED)}
    assert not missing, "add a configuration of each to EXPORTED"
    assert set(EXPORTED) <= {path.stem for path in CONFIGS}
