"""The training loop: against a reference's trace, resuming, averaging, and what its hooks say."""

import json

import cv2
import numpy as np
import paddle
import pytest
from PIL import Image
from reference import load_fill

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_dataset
from ppdet.engine.checkpoints.weights import CheckpointError, read_arrays
from ppdet.engine.hooks import DeadSideHook, Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.guard import DivergedError
from ppdet.utils.errors import ConfigError, DataError
from ppdet.utils.locations import Locations


class Recorder(Hook):
    """Keeps learning rate and losses of every step; stops after `steps`."""

    def __init__(self, steps=None):
        self.rows, self.steps = [], steps

    def after_step(self, trainer):
        names = ("loss", "loss_cls", "loss_box", "loss_quality")
        self.rows.append([trainer.learning_rate, *(float(trainer.losses[n]) for n in names)])
        if len(self.rows) == self.steps:
            raise StopIteration


def test_golden_trace(shared, tmp_path):
    """Ten steps of a reference implementation, through our trainer and reader."""
    golden = json.loads((shared / "goldens" / "trace_r18_1x.json").read_text())
    fill = load_fill(shared)
    data = "{name: COCODataSet, dataset_dir: %s, image_dir: images, anno_path: annotations/train.json, " % (
        shared / "data" / "bccd"
    )
    cfg = load_config(
        golden["config"],
        [
            "ResNet.depth=18",
            "num_classes=3",
            "pretrain_weights=null",
            "worker_num=0",
            f"save_dir={tmp_path}",
            f"TrainDataset={data} data_fields: [image, gt_bbox, gt_class, is_crowd]}}",
            "TrainReader.sample_transforms.1.Resize.target_size=[256,416]",
            "TrainReader.sample_transforms.3.RandomFlip.prob=0.0",
            "TrainReader.shuffle=false",
            "auto_lr=null",
        ],
    )
    recorder = Recorder(steps=len(golden["rows"]))
    trainer = Trainer(cfg, hooks=[recorder])
    assert trainer.steps_per_epoch == 102
    for name, value in trainer.model.state_dict().items():
        value.set_value(fill(name, value.shape))
    with pytest.raises(StopIteration):
        trainer.train()
    assert np.allclose(recorder.rows, golden["rows"], rtol=0.02)


@pytest.mark.parametrize("extra", [[], ["use_ema=true", "ema_decay=0.9"]])
def test_resuming_gives_what_an_unbroken_run_gives(tiny, tmp_path, extra):
    unbroken, broken = (tmp_path / name for name in ("unbroken", "broken"))
    Trainer(load_config(str(tiny), [f"save_dir={unbroken}", *extra])).train()

    class Killed(Hook):
        def before_step(self, trainer):
            if trainer.epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(load_config(str(tiny), [f"save_dir={broken}", *extra]), hooks=[Killed()]).train()
    again = Trainer(load_config(str(tiny), [f"save_dir={broken}", *extra]), resume=f"{broken}/tiny/0")
    assert (again.epoch, again.iteration) == (1, 4)
    again.train()
    for suffix in ["pdparams", "pdema"] if extra else ["pdparams"]:
        first, second = (read_arrays(folder / "tiny" / f"model_final.{suffix}") for folder in (unbroken, broken))
        assert all(np.array_equal(value, second[name]) for name, value in first.items())


def test_files_of_a_run(tiny, tmp_path, log):
    trainer = Trainer(load_config(str(tiny)), evaluate=True)
    assert any(isinstance(hook, DeadSideHook) for hook in trainer.hooks)
    trainer.train()
    names = {p.name for p in (tmp_path / "output" / "tiny").iterdir()}
    pictures_and_logs = {"train_batch.jpg", "train_batch_2.jpg", "history.jsonl", "run.json", "config.yml", "train.log"}
    assert names == pictures_and_logs | {"best_model.pdparams", "best_model.json"} | {
        f"{prefix}.{suffix}" for prefix in ("0", "model_final") for suffix in ("pdparams", "pdopt", "json")
    }
    text = "\n".join(r.getMessage() for r in log.records)
    for part in ("learning_rate: 0.001000", "eta: ", "images/s", "data_cost", "AP by epoch: 1: ", "weights: "):
        assert part in text, part


def test_training_learns(tiny):
    recorder = Recorder()
    cfg = load_config(str(tiny), ["epoch=8", "snapshot_epoch=8", "log_iter=100", "LearningRate.base_lr=0.02"])
    Trainer(cfg, hooks=[recorder]).train()
    losses = np.array(recorder.rows)[:, 1]
    assert losses[-4:].mean() < 0.7 * losses[:4].mean()


def test_batch_without_any_box(tiny):
    class Empty(Hook):
        def before_step(self, trainer):
            trainer.batches[0]["target_labels"] = paddle.zeros_like(trainer.batches[0]["target_labels"])
            trainer.batches[0]["target_distances"] = paddle.zeros_like(trainer.batches[0]["target_distances"])
            trainer.batches[0]["target_centerness"] = paddle.zeros_like(trainer.batches[0]["target_centerness"])

    recorder = Recorder()
    trainer = Trainer(load_config(str(tiny), ["epoch=1"]), hooks=[Empty(), recorder])
    trainer.train()
    assert np.isfinite(recorder.rows).all()
    assert all(np.isfinite(p.numpy()).all() for p in trainer.model.parameters())


def test_odd_images_and_boxes(tiny, tmp_path):
    """Gray, 16-bit, CMYK and very long images, a box of no size, an image without boxes: finite, and all used."""
    folder = tmp_path / "data"
    content = json.loads((folder / "train.json").read_text())
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 255, (96, 128), dtype=np.uint8)
    long = rng.integers(0, 255, (10, 2000, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "images" / "gray.png"), gray)
    cv2.imwrite(str(folder / "images" / "deep.png"), gray.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "images" / "long.png"), long)
    Image.merge("CMYK", [Image.fromarray(gray)] * 4).save(folder / "images" / "cmyk.jpg")
    content["images"], content["annotations"] = [], []
    for number, (name, box) in enumerate(
        [
            ("gray.png", [10, 10, 40, 40]),
            ("deep.png", [5, 5, 0, 0]),
            ("long.png", [100, 0, 300, 10]),
            ("cmyk.jpg", [-20, -20, 60, 60]),
            ("001.png", None),
        ],
        start=1,
    ):
        width, height = (2000, 10) if name == "long.png" else (128, 96)
        content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        if box:
            annotation = {"id": number, "image_id": number, "category_id": 3, "bbox": box, "area": 1, "iscrowd": 0}
            content["annotations"].append(annotation)
    (folder / "train.json").write_text(json.dumps(content))
    recorder = Recorder()
    options = ["epoch=2", "TrainDataset.allow_empty=true", "TrainReader.batch_size=1"]
    trainer = Trainer(load_config(str(tiny), options), evaluate=True, hooks=[recorder])
    trainer.train()
    assert trainer.iteration == 10 and not trainer.reader.skipped
    assert np.isfinite(recorder.rows).all()
    assert all(np.isfinite(p.numpy()).all() for p in trainer.model.parameters())


class FakeTrainer:
    """What DeadSideHook reads of a trainer: the losses of the step and the locations of the model."""

    class model:
        locations = Locations((8, 16))

    is_log_step = True

    def __init__(self, zeros):
        self.losses = {
            "positives": paddle.to_tensor([10.0, 0.0]),
            "zero_sides": paddle.to_tensor([zeros, [0.0] * 4]),
        }


def test_dead_side_is_named_once(log):
    hook = DeadSideHook(window=6)
    for _ in range(13):
        hook.after_step(FakeTrainer([10.0, 9.0, 0.0, 2.0]))
    messages = [r.getMessage() for r in log.records if "dead side" in r.getMessage()]
    assert len(messages) == 1
    assert "left distance of level P3 (stride 8) is zero at 60 of 60 positives" in messages[0]


def test_wrong_number_of_classes(tiny):
    with pytest.raises(ConfigError, match=r"TrainDataset: .* has 2 classes .* num_classes is 80: set num_classes"):
        Trainer(load_config(str(tiny), ["num_classes=80"]))


def test_resuming_with_another_batch_size_keeps_the_epochs(tiny, tmp_path, log):
    Trainer(load_config(str(tiny), ["epoch=2"])).train()
    again = Trainer(load_config(str(tiny), ["epoch=3", "TrainReader.batch_size=1"]), resume=f"{tmp_path}/output/tiny/0")
    assert (again.steps_per_epoch, again.epoch, again.iteration, again.scheduler.last_epoch) == (8, 1, 8, 8)
    assert "an epoch has 8 steps, 4 when the checkpoint was written" in log.text


@pytest.mark.parametrize(
    "option",
    [
        "FCOSHead.norm_reg_targets=false",
        "FCOSHead.num_shift=0",
        "FCOSHead.multiply_strides_reg_targets=true",
        "TrainReader.batch_transforms.1.Gt2FCOSTarget.downsample_ratios=[8,16,64]",
    ],
)
def test_targets_of_another_head_are_refused(tiny, option):
    with pytest.raises(ConfigError, match="Gt2FCOSTarget") as error:
        Trainer(load_config(str(tiny), [option]))
    assert ("ResNet.return_idx and FPN.extra_stage give the levels" in str(error.value)) == ("ratios" in option)


def test_training_data_without_boxes_is_refused(tiny):
    with pytest.raises(DataError, match="data_fields"):
        Trainer(load_config(str(tiny), ["TrainDataset.data_fields=[image]"]))


def test_a_run_that_diverges_ends_and_saves_nothing(tiny, tmp_path):
    with pytest.raises(
        DivergedError, match=r"2 steps in a row had gradients or running statistics that are infinite or not numbers"
    ):
        Trainer(load_config(str(tiny), ["LearningRate.base_lr=1e10", "epoch=4", "max_bad_steps=2"])).train()
    assert not list((tmp_path / "output" / "tiny").glob("*.pdparams"))


def test_a_failed_evaluation_does_not_cost_the_epoch(tiny, tmp_path):
    trainer = Trainer(load_config(str(tiny)), evaluate=True)

    def fail(model):
        raise OSError("no room")

    trainer.evaluator = fail
    with pytest.raises(OSError, match="no room"):
        trainer.train()
    assert (tmp_path / "output" / "tiny" / "0.pdparams").exists()


def test_names_of_other_classes_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"TestDataset: .* has 2 classes .* num_classes is 3"):
        build_dataset(load_config(str(tiny), ["num_classes=3"]), "TestDataset")


def test_resuming_from_nothing(tiny, tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.json: no such file"):
        Trainer(load_config(str(tiny)), resume=str(tmp_path / "nothing"))
