"""Semi-supervised training on the trainer's loop."""

import json
import math

import numpy as np
import paddle
import pytest
from autocast import as_on_a_gpu

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.losses import total_losses
from ppdet.engine.training.methods import split_views, suppression
from ppdet.engine.training.precision import Precision
from ppdet.utils.errors import ConfigError


class Killed(Exception):
    pass


class Record(Hook):
    """Losses, images and weights of every step; ends the run after `kill` steps."""

    def __init__(self, kill=None):
        self.kill, self.losses, self.images, self.students = kill, [], [], []

    def before_step(self, trainer):
        if trainer.iteration == self.kill:
            raise Killed

    def after_step(self, trainer):
        self.losses.append({name: float(value) for name, value in trainer.losses.items() if value.ndim == 0})
        self.images.append(
            [sorted(b[k].tolist()) for b in ({**b, **b["unlabeled"]} for b in trainer.batches) for k in ("im_id",)]
        )
        self.students.append({name: value.numpy() for name, value in trainer.model.state_dict().items()})


def trainer(path, *options, **arguments):
    return Trainer(load_config(str(path), options), **arguments)


@pytest.mark.parametrize(
    ("kind", "iteration", "expected"),
    [
        ("linear", 101, 0.01),
        ("linear", 150, 0.5),
        ("linear", 200, 1.0),
        ("linear", 201, 1.0),
        ("exp", 101, math.exp(-1999 / 1000)),
        ("exp", 2000, math.exp(-0.1)),
        ("exp", 2100, 1.0),
        ("exp", 5000, 1.0),
        ("step", 101, 0.25),
        ("step", 200, 0.25),
        ("step", 201, 1.0),
        (None, 101, 1.0),
    ],
)
def test_suppression(kind, iteration, expected):
    assert suppression(iteration, 100, kind) == pytest.approx(expected)
    assert suppression(iteration, 0, kind) == 1.0


def test_losses_of_a_step():
    one = {"loss": 3.0, "loss_cls": 1.0, "positives": [1.0, 2.0]}
    two = {"loss": 5.0, "loss_cls": 2.0, "positives": [3.0, 4.0]}
    three = {"loss": 7.0, "distill_loss_cls": 6.0}
    tensors = [{k: paddle.to_tensor(v) for k, v in part.items()} for part in (one, two, three)]
    total = total_losses(tensors, [0.5, 0.5, 2.0])
    assert {name: value.tolist() for name, value in total.items()} == {
        "loss": 18.0,
        "loss_cls": 1.5,
        "positives": [4.0, 6.0],
        "distill_loss_cls": 6.0,
    }


def test_burn_in_teacher_and_files(tiny_semi, tmp_path):
    """Unlabeled images count from step 3 on; the teacher copies up to step 2, then averages."""
    record = Record()
    # A quarter of the run's eight steps.
    run = trainer(tiny_semi, "semi_start_iters=25%", "ema_start_iters=2", "epoch=2", hooks=[record])
    assert (run.method.start, run.ema.start) == (2, 2)
    run.train()
    assert ["fg_sum" in losses for losses in record.losses] == [False] * 3 + [True] * 5
    kinds = {"loss", "loss_cls", "loss_box", "loss_quality"}
    assert set(record.losses[0]) == kinds
    assert set(record.losses[3]) == kinds | {f"distill_{kind}" for kind in kinds if kind != "loss"} | {"fg_sum"}
    # Step 3 of s = 2: (3 - 2) / 2 of the loss on unlabeled images.
    third = record.losses[3]
    unlabeled = 4 * third["distill_loss_cls"] + third["distill_loss_box"] + third["distill_loss_quality"]
    supervised = third["loss_cls"] + third["loss_box"] + third["loss_quality"]
    assert third["loss"] == pytest.approx(supervised + 0.5 * unlabeled, rel=1e-5)

    teacher = read_arrays(run.output / "model_final.pdparams")
    student = read_arrays(run.output / "model_final.pdema")
    expected = dict(record.students[2])
    for weights in record.students[3:]:
        expected = {name: 0.9 * expected[name] + 0.1 * weights[name] for name in expected}
    for name, value in expected.items():
        assert np.allclose(teacher[name], value, atol=1e-6), name
        assert np.array_equal(student[name], record.students[-1][name]), name
        assert np.array_equal(run.method.layer.teacher.state_dict()[name].numpy(), teacher[name])
    assert not run.method.layer.teacher.training and run.model.training


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("accumulate_steps=2", "DenseTeacher.train_cfg={ratio: auto, norm_statistics: separate}"),
        (
            "DenseTeacher.train_cfg={norm_statistics: frozen, concat_sup_data: false, cutmix_prob: 0.5}",
            "semi_start_iters=20%",
        ),
    ],
)
def test_going_on_in_the_middle_of_an_epoch_is_bit_for_bit(tiny_semi, tmp_path, options):
    options = ["snapshot_iters=3", "max_iters=5", *options]  # an epoch has four steps, or two
    whole, first, rest = Record(), Record(kill=3), Record()
    one = trainer(tiny_semi, f"save_dir={tmp_path}/whole", *options, hooks=[whole])
    one.train()
    with pytest.raises(Killed):
        trainer(tiny_semi, f"save_dir={tmp_path}/broken", *options, hooks=[first]).train()
    other = trainer(tiny_semi, f"save_dir={tmp_path}/broken", *options, resume="auto", hooks=[rest])
    assert other.iteration == 3
    other.train()
    assert first.losses + rest.losses == whole.losses
    assert first.images + rest.images == whole.images
    for suffix in (".pdparams", ".pdema", ".pdopt"):
        ours, theirs = (read_arrays(run.output / f"model_final{suffix}") for run in (one, other))
        arrays = {name: value for name, value in ours.items() if isinstance(value, np.ndarray)}
        assert arrays and all(np.array_equal(value, theirs[name]) for name, value in arrays.items())


def test_views_one_by_one_are_the_mean_of_both(tiny_semi):
    """Both views have the same positives, and frozen norms no statistics of a batch: the losses are the same."""
    step = {}
    for concatenated in ("true", "false"):
        record = Record(kill=1)
        options = [f"DenseTeacher.train_cfg.concat_sup_data={concatenated}", "DenseTeacher.train_cfg.sup_weight=3"]
        options.append("ResNet.freeze_norm=true")
        with pytest.raises(Killed):
            trainer(tiny_semi, *options, hooks=[record]).train()
        step[concatenated] = record.losses[0]
    assert step["true"] == pytest.approx(step["false"], rel=1e-5)
    for losses in step.values():
        parts = losses["loss_cls"] + losses["loss_box"] + losses["loss_quality"]
        assert losses["loss"] == pytest.approx(3 * parts, rel=1e-5)


@pytest.mark.parametrize(("statistics", "options"), [("separate", ("accumulate_steps=2",)), ("frozen", ())])
def test_running_statistics_of_weak_views_alone(tiny_semi, statistics, options):
    """In a step with labeled and unlabeled images, momentum * old + (1 - momentum) * the weak labeled views' mean."""
    seen = []

    class Watch(Record):
        def before_step(self, trainer):
            super().before_step(trainer)
            first = next(iter(trainer.model.backbone.conv1))
            self.conv, self.norm = first.conv, first.norm
            self.expected = self.norm._mean.numpy()
            for batch in trainer.batches:
                weak = batch["image"][len(batch["im_id"]) // 2 :]
                maps = paddle.nn.functional.conv2d(weak, self.conv.weight, None, self.conv._stride, self.conv._padding)
                self.expected = 0.9 * self.expected + 0.1 * maps.mean(axis=[0, 2, 3]).numpy()

        def after_step(self, trainer):
            seen.append("fg_sum" in trainer.losses)
            np.testing.assert_allclose(self.norm._mean.numpy(), self.expected, atol=1e-5)

    with pytest.raises(Killed):
        options = (f"DenseTeacher.train_cfg.norm_statistics={statistics}", *options)
        trainer(tiny_semi, *options, hooks=[Watch(kill=2)]).train()
    assert seen == [False, True]


def test_statistics_change_no_loss_of_frozen_norms(tiny_semi):
    """The views pass one after the other then, and the losses are those of the views together."""
    losses = []
    for kind in ("shared", "separate"):
        record = Record(kill=2)
        options = [f"DenseTeacher.train_cfg.norm_statistics={kind}", "ResNet.freeze_norm=true"]
        with pytest.raises(Killed):
            trainer(tiny_semi, *options, hooks=[record]).train()
        losses.append(record.losses)
    for shared, other in zip(*losses):
        assert other == pytest.approx(shared, rel=1e-4)


def test_views_of_a_batch():
    batch = {"im_id": paddle.arange(4), "gt_bbox": list("abcd")}
    strong, weak = split_views(batch)
    assert (strong["im_id"].tolist(), weak["gt_bbox"]) == ([0, 1], ["c", "d"])


def test_teacher_and_student_are_evaluated_and_the_teacher_is_judged(tiny_semi, log):
    run = trainer(tiny_semi, "epoch=1", "ema_decay=0.9999", evaluate=True)
    name = "fcos_head.fcos_head_cls.bias"

    class Recorded(Evaluator):
        calls = ()

        def __call__(self, model):
            self.calls = (*self.calls, model.state_dict()[name].numpy())
            numbers = super().__call__(model)
            if len(self.calls) == 2:  # as if the teacher had found both classes, and the student none
                self.metric.update(np.array([[c, 0.9, 1, 1, 9, 9] for c in (0, 1)]), [2], [99], [(96, 128)])
            return {**numbers, "AP": 0.1 * len(self.calls)}

    run.evaluator.__class__ = Recorded
    run.train()
    teacher, student = (read_arrays(run.output / f"model_final{s}") for s in (".pdparams", ".pdema"))
    calls = run.evaluator.calls
    assert np.array_equal(calls[0], student[name]) and np.array_equal(calls[1], teacher[name])
    assert run.best_value == pytest.approx(0.2)
    lines = [json.loads(line) for line in (run.output / "history.jsonl").read_text().splitlines()]
    evaluation = next(line for line in lines if line["event"] == "evaluation")
    numbers = evaluation["numbers"]
    assert (numbers["AP"], numbers["student_AP"]) == (pytest.approx(0.2), pytest.approx(0.1))
    assert evaluation["undetected"] == []
    assert np.array_equal(read_arrays(run.output / "best_model.pdparams")[name], teacher[name])


def test_a_bad_step_names_its_unlabeled_images(tiny_semi, log):
    class Spoil(Hook):
        def before_step(self, trainer):
            if trainer.iteration == 1:
                trainer.batches[0]["unlabeled"]["image"][0] = float("nan")

    run = trainer(tiny_semi, "epoch=1", "use_onednn=false", hooks=[Spoil()])
    run.train()
    (line,) = (run.output / "bad_steps.jsonl").read_text().splitlines()
    (rank,) = json.loads(line)["ranks"]
    assert (len(rank["images"]), len(rank["unlabeled"])) == (2, 3)
    assert all("/data/images/" in image["file"] for image in rank["images"])
    assert all("/unlabeled/images/" in image["file"] for image in rank["unlabeled"])
    told = [f"{image['id']}" for image in rank["images"]] + [f"unlabeled {image['id']}" for image in rank["unlabeled"]]
    assert f"images {', '.join(told)}, see" in log.text
    for weights in (run.model.state_dict(), run.ema.state_dict()):
        assert all(bool(paddle.isfinite(value).all()) for value in weights.values())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("use_simple_ema=false", "set use_simple_ema: true"),
        ("UnsupTrainDataset=null", "UnsupTrainDataset"),
        ("DenseTeacher.train_cfg.ratio=2.0", "DenseTeacher.train_cfg: .*ratio"),
        ("DenseTeacher.train_cfg.rato=0.1", "rato.*ratio"),
        ("DenseTeacher.train_cfg.ratio=automatic", "ratio: expected float or 'auto', got 'automatic'"),
        ("DenseTeacher.train_cfg.cutmix_prob=1.5", "cutmix_prob: expected at most 1, got 1.5"),
        ("DenseTeacher.train_cfg.ratio=-0.1", "ratio: expected at least 0, got -0.1"),
        ("DenseTeacher.train_cfg.loss_weight.distill_loss_cls=-1", "distill_loss_cls"),
        ("DenseTeacher.test_cfg.inference_on=student", "inference_on"),
        ("DenseTeacher.train_cfg.suppress=cubic", "suppress"),
        ("ema_decay=1.5", "ema_decay is 1.5"),
        ("UnsupTrainDataset.supervised=true", "make it `!SemiCOCODataSet` with `supervised: false`"),
        ("accumulate_steps=9", "accumulate_steps is 9, but an epoch has 4 batches"),
        ("SemiTrainReader.sup_batch_transforms=[Permute: {}, PadBatch: {pad_to_stride: 32}]", "add Gt2FCOSTarget"),
    ],
)
def test_wrong_settings(tiny_semi, option, message):
    with pytest.raises(ConfigError, match=message):
        trainer(tiny_semi, option)


def test_a_single_image_has_no_other_one_to_paste(tiny_semi):
    options = ["DenseTeacher.train_cfg.cutmix_prob=0.5", "SemiTrainReader.unsup_batch_size=1"]
    with pytest.raises(ConfigError, match=r"cutmix_prob pastes another .* raise SemiTrainReader\.unsup_batch_size"):
        trainer(tiny_semi, *options)


def test_another_batch_size_moves_the_teachers_clock_too(tiny_semi):
    with pytest.raises(Killed):
        trainer(tiny_semi, "snapshot_iters=2", hooks=[Record(kill=2)]).train()
    again = trainer(tiny_semi, "SemiTrainReader.sup_batch_size=1", resume="auto")
    assert again.iteration == again.ema.step == 4


@pytest.mark.parametrize(("level", "dtype"), [("O1", "bfloat16"), ("O2", "float16")])
def test_networks_of_both_follow_mixed_precision(tiny_semi, level, dtype):
    """Student and teacher compute in the smaller type on unlabeled images too, on a GPU; the loss does not."""
    run = trainer(tiny_semi, f"amp_level={level}", f"amp_dtype={dtype}", "eval_amp=true")
    images = next(iter(run.reader))["unlabeled"]["image"]
    networks = run.model, run.method.layer.teacher
    seen = []
    for model in networks:
        model.neck.register_forward_post_hook(lambda layer, inputs, maps: seen.extend(m.dtype for m in maps))
    with as_on_a_gpu() as autocast, Precision(run.cfg, "eval_amp").forward():
        layer = run.method.layer.loss
        layer.register_forward_pre_hook(lambda *_: autocast.calls.clear())
        losses = run.method.layer(unlabeled=images)
        assert seen == [getattr(paddle, dtype)] * 6
        assert {call.dtype for call in autocast.calls} == {paddle.float32} and len(autocast.calls) > 30
    assert {value.dtype for value in losses.values()} == {paddle.float32}


@pytest.mark.parametrize("start", [0, 2])
def test_a_teacher_that_has_learned_nothing_is_told(tiny_semi, log, start):
    first = trainer(tiny_semi, f"semi_start_iters={start}", "epoch=1")
    assert ("the teacher has learned nothing yet" in log.text) is (start == 0)
    first.train()
    log.clear()
    whole = trainer(tiny_semi, f"pretrain_weights={first.output}/model_final.pdparams")
    backbone = first.output / "backbone.pdparams"
    paddle.save({n: v for n, v in first.model.state_dict().items() if n.startswith("backbone.")}, str(backbone))
    part = trainer(tiny_semi, f"pretrain_weights={backbone}", f"semi_start_iters={start}")
    assert (whole.pretrained, part.pretrained) == (True, False)
    assert log.text.count("the teacher has learned nothing yet") == (start == 0)


def test_any_data_set_without_labels_will_do(tiny_semi, tmp_path, log):
    folder = f"!ImageFolder {{dataset_dir: {tmp_path}/unlabeled/images}}"
    path = tmp_path / "folder.yml"
    path.write_text(f"_BASE_: [tiny_semi.yml]\nUnsupTrainDataset: {folder}\n")
    run = trainer(path, "epoch=1")
    run.train()
    assert run.iteration == 4 and "no look" not in log.text
    assert (run.output / "pseudo_labels" / "epoch_0001.jpg").is_file()
