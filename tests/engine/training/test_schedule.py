"""Parts of a schedule that do not fit the run are reported once, before training."""

import dataclasses
from pathlib import Path

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.hooks.log import LogHook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.auto_lr import learning_rate
from ppdet.engine.training.dry_run import dry_run
from ppdet.engine.training.run_length import steps_per_iteration, total_steps
from ppdet.engine.training.schedule import RunSchedule, plan_of

ROOT = Path(__file__).resolve().parents[3]
YAML = (ROOT / "configs").glob("*/**/*.yml")
SHIPPED = [path for path in YAML if path.parent.name not in ("_base_", "datasets")]
BCCD = ROOT / "configs/fcos/fcos_r18vd_fpn_bccd.yml"
SHAPES = ROOT / "configs/fcos/fcos_r18_fpn_shapes.yml"
PLUS = ROOT / "configs/fcos/fcosplus_r50_fpn_1x_coco.yml"
SEMI = ROOT / "configs/semi_det/denseteacher/denseteacher_fcos_r50_fpn_coco_semi010.yml"


def plan(path, images, images_per_step, *options):
    """The schedule of a configuration for `images` labeled images, `images_per_step` in a step."""
    cfg = load_config(path, options)
    steps = max(1, images // images_per_step)
    factor = steps_per_iteration(cfg, "milestones", images_per_step)
    return RunSchedule(
        cfg, learning_rate(cfg, images_per_step), total_steps(cfg, steps, images_per_step), steps, factor
    )


def images_of(path):
    """Images with boxes in the data that a recipe is for."""
    if "shapes" in path.stem:
        return 600
    if "bccd" in path.stem:
        return 20 if "010" in path.stem else 205
    return {"005": 5863, "010": 11726}.get(path.stem.removesuffix("_lsj")[-3:], 117266)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_recipes_fit_their_own_data(path):
    ours = [4] if "shapes" in path.stem or "bccd" in path.stem else [2, 4, 16]
    for images_per_step in ours:
        assert plan(path, images_of(path), images_per_step).misfits() == []


def test_schedules_in_shares_fit_every_run():
    """The same two lines fit 12 steps and 3,200: `-o epoch=` is all that a longer run needs."""
    shares = (
        "LearningRate.schedulers=[PiecewiseDecay: {milestones: [70%, 90%]}, LinearWarmup: {steps: 10%}]",
        "snapshot_epoch=1",
    )
    short, long = (plan(BCCD, 40, 4, *shares, f"epoch={epoch}") for epoch in (2, 100))
    assert short.misfits() == long.misfits() == []
    assert (short.warmup, short.milestones) == (2, [14, 18])
    assert (long.warmup, long.milestones) == (100, [700, 900])
    assert "20 steps (2 epochs of 10), warm-up until step 2, " in short.text()
    assert "changed after step 14, 18, 0.0001 at the end" in short.text()
    cosine = plan(SHAPES, 40, 4, "LearningRate.schedulers=[CosineDecay: {max_epochs: 100%}]", "epoch=9", "max_iters=37")
    assert (cosine.cosine_end, cosine.misfits()[1:]) == (37, [])


WARM, LATE = "the warm-up takes", "the rate is to change after step"
MILESTONES, COSINE = "LearningRate.schedulers.0.milestones", "LearningRate.schedulers.0.max_epochs"
TWO_EPOCHS = "LearningRate.schedulers=[LinearWarmup: {epochs: 2}]"
NEVER = "unlabeled images never count: the run has 200 steps, they count after semi_start_iters 5000: lower it (and"


@pytest.mark.parametrize(
    ("path", "images", "options", "expected"),
    [
        # Twelve steps, as somebody has them who tries three batches for four epochs.
        (
            *(BCCD, 12, ["epoch=4"]),
            [
                f"{WARM} 50 of 12 steps: lower LearningRate.schedulers.1.steps",
                f"{LATE} 33, 45, the run has 12: lower {MILESTONES}",
            ],
        ),
        (BCCD, 205, ["epoch=12"], [f"{LATE} 765, the run has 612: lower {MILESTONES}"]),
        (BCCD, 205, ["epoch=15"], []),  # a last milestone at the very end is a way of saying never
        (BCCD, 205, ["epoch=1"], [f"{WARM} 50 of 51", f"{LATE} 561, 765"]),
        (BCCD, 8, [], [f"{WARM} 50 of 32", f"{LATE} 22, 30, within the warm-up: raise {MILESTONES}"]),
        (
            *(BCCD, 205, ["epoch=3", TWO_EPOCHS]),
            [f"{WARM} 102 of 153 steps: lower LearningRate.schedulers.0.epochs", "lower snapshot_epoch 4"],
        ),
        (SHAPES, 600, ["epoch=4"], [f"ends at step 1200 of 600, the run stops at 0.00107: set {COSINE}=4"]),
        (SHAPES, 600, ["epoch=16"], [f"ends at step 1200 of 2400, the rate stays at its minimum: set {COSINE}=16"]),
        (SHAPES, 600, ["epoch=16", f"{COSINE}=16"], []),
        (SHAPES, 600, ["epoch=3", f"{COSINE}=3"], ["lower snapshot_epoch 4"]),
        (PLUS, 400, ["epoch=90000"], ["max_iters 90000 ends the run before epoch 90000: set max_iters=null"]),
        (BCCD, 205, ["epoch=4", "max_iters=800", "LearningRate.schedulers=[]"], []),
        (PLUS, 117266, ["max_iters=1000"], [f"{LATE} 240000, 320000, the run has 1000"]),
        (
            *(SEMI, 40, ["epoch=20"]),
            [f"{WARM} 1000 of 200 steps", f"{LATE} 2400", NEVER, "stays a copy until ema_start_iters 3000"],
        ),
        (SEMI, 11726, ["semi_start_iters=0"], ["copy of the student until ema_start_iters 3000, but teaches from"]),
        (BCCD, 205, ["use_ema=true", "ema_start_iters=816"], ["stays a copy until ema_start_iters 816"]),
        (BCCD, 205, ["ema_start_iters=816"], []),  # nothing is averaged
        (SEMI, 11726, ["semi_start_iters=35%", "ema_start_iters=30%"], []),
        # 0.9998 ** 815 is 0.85, and 0.9943 ** 815 below 0.01; 0.98 ** 207 is 0.015.
        (
            BCCD,
            205,
            ["use_simple_ema=true"],
            ["85% of the averaged weights will be those of step 1: lower ema_decay 0.9998 to 0.9943"],
        ),
        (BCCD, 205, ["use_ema=true", "ema_decay_type=normal", "ema_decay=0.9943"], []),
        (
            BCCD,
            205,
            ["use_simple_ema=true", "ema_decay=0.98", "ema_start_iters=608"],
            ["2% of the averaged weights will be those of step 609"],
        ),
        (BCCD, 205, ["use_ema=true"], []),
        (BCCD, 205, ["use_simple_ema=true", "ema_decay=0.0"], []),
        (SEMI, 11726, ["ema_start_iters=100%"], ["stays a copy until ema_start_iters 703440: lower it"]),
    ],
)
def test_misfits(path, images, options, expected):
    found = plan(path, images, 4, *options).misfits()
    missing = [part for part in expected if not any(part in line for line in found)]
    assert not missing and len(found) <= len(expected), found


@pytest.mark.parametrize(
    ("path", "options", "text"),
    [
        (BCCD, [], "816 steps (16 epochs of 51), warm-up until step 50, learning rate 0.01 after it, changed after "
                   "step 561, 765, 0.0001 at the end"),
        (SEMI, ["epoch=200", "use_ema=true"], "10200 steps (200 epochs of 51), warm-up until step 1000, learning rate "
                   "0.0025 after it, changed after step 12240, 0.0025 at the end, weights averaged after step 3000, "
                   "unlabeled images count after step 5001"),
        (SHAPES, ["LearningRate.schedulers=[CosineDecay: {max_epochs: 8, min_lr_ratio: 0.5}]"],
         "408 steps (8 epochs of 51), learning rate 0.002, a cosine down to step 408, 0.001 at the end"),
    ],
)  # fmt: skip
def test_the_schedule_in_a_line(path, options, text):
    assert plan(path, 205, 4, *options).text() == f"schedule: {text}"


def test_the_end_of_mosaics_is_part_of_the_line(tiny, log):
    transforms = "[Decode: {}, Mosaic: {input_dim: [64, 96]}, Cutmix: {}, Mixup: {}, NormalizeImage: {}, Permute: {}]"
    options = [f"TrainReader.sample_transforms={transforms}", "epoch=2", "TrainReader.cutmix_epoch=-1", "worker_num=0"]
    trainer = Trainer(load_config(str(tiny), [*options, "TrainReader.mixup_epoch=0"]))
    assert trainer.total_steps == 8
    dry_run(trainer)
    assert "Mosaic until step 7, Cutmix never, Mixup always" in log.text  # 85 % of 8 steps are 6.8


def misfits(log):
    return [r.getMessage() for r in log.records if "does not fit" in r.getMessage() and r.levelname == "WARNING"]


def test_a_probability_that_would_grow_after_the_end(tiny_semi):
    """GridMask alone would do nothing in a short run, without a word."""
    views = "[StrongAugImage: {transforms: [GridMask: {}]}, NormalizeImage: {}]"
    plan = plan_of(Trainer(load_config(tiny_semi, ["epoch=2", f"SemiTrainReader.strong_aug={views}"])))

    def told(plan):
        return [text for text in plan.misfits() if "GridMask" in text]

    assert plan.growing == {"GridMask": 360000}
    assert told(plan) == ["the probability of GridMask grows until step 360000: lower its upper_iter, or set it to 0"]
    assert plan.total == 8 and told(dataclasses.replace(plan, growing={"GridMask": 8})) == []


def test_unlabeled_images_that_never_count(tiny_semi, log):
    """One warning as training begins; the dry run shows the schedule, and the losses that the run will have."""
    options = ["epoch=1", "semi_start_iters=5000", "ema_start_iters=3000", "log_iter=100"]
    trainer = Trainer(load_config(tiny_semi, options))
    found = dry_run(trainer)
    assert not any("distill" in name for name in found["losses"])
    assert "schedule: 4 steps (1 epoch of 4), warm-up until step 2, learning rate 0.01 after it" in log.text
    assert len(misfits(log)) == 1
    log.clear()
    LogHook().before_train(trainer)
    (line,) = misfits(log)
    assert "the run has 4 steps, they count after semi_start_iters 5000" in line and "ema_start_iters 3000" in line
