"""Runs whose length is a number of iterations, which may end within an epoch. An epoch of the tiny data has 4 steps."""

import json

import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.hooks import Hook
from ppdet.engine.hooks.history import HISTORY, read_history
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.dry_run import dry_run
from ppdet.utils.errors import ConfigError

DECAY = (
    "LearningRate.schedulers=[{PiecewiseDecay: {milestones: [3, 5], unit: iteration}}, "
    "{ConstantWarmup: {steps: 2, start_factor: 0.25}}]"
)
SIX = ["epoch=null", "max_iters=6", "log_iter=100", DECAY]
RATES = [0.0025, 0.0025, 0.01, 0.001, 0.001, 0.0001]


class Steps(Hook):
    """Learning rate and images of every step; reports; the process may be killed before one of the steps."""

    def __init__(self, kill_at=None):
        self.rates, self.images, self.reports, self.kill_at = [], [], [], kill_at

    def before_step(self, trainer):
        if trainer.iteration == self.kill_at:
            raise KeyboardInterrupt

    def after_step(self, trainer):
        self.rates.append(trainer.learning_rate)
        self.images.append([int(i) for batch in trainer.batches for i in batch["im_id"].flatten().tolist()])

    def after_report(self, trainer, report):
        self.reports.append(trainer.iteration)


def run(tiny, *options, hook=None, **settings):
    trainer = Trainer(load_config(str(tiny), [*SIX, *options]), hooks=[hook or Steps()], **settings)
    trainer.train()
    return trainer


def assert_same_weights(one, other):
    first, second = (read_arrays(trainer.output / "model_final.pdparams") for trainer in (one, other))
    assert all(np.array_equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ([], 8, 2),
        (["epoch=3"], 12, 3),
        (["max_iters=6"], 6, 2),
        (["max_iters=8"], 8, 2),
        (["max_iters=90"], 8, 2),  # the epochs end first
        (["epoch=null", "max_iters=9"], 9, 3),
        (["epoch=null", "max_iters=1"], 1, 1),
    ],
)
def test_the_shorter_of_both_counts(tiny, options, steps, epochs):
    trainer = Trainer(load_config(str(tiny), options))
    assert (trainer.total_steps, trainer.epochs) == (steps, epochs)


def test_a_run_without_length_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"tiny\.yml: epoch and max_iters are both null: set one of them"):
        Trainer(load_config(str(tiny), ["epoch=null"]))
    with pytest.raises(ConfigError, match=r"max_iters: expected at least 1, got 0"):
        load_config(str(tiny), ["max_iters=0"])


def test_ends_within_an_epoch(tiny, log):
    hook = Steps()
    trainer = run(tiny, hook=hook, evaluate=True)
    assert trainer.iteration == 6 and hook.rates == pytest.approx(RATES)
    assert hook.reports == [1, 6], "the first and the last step, since an epoch has fewer than log_iter"
    assert {path.stem for path in trainer.output.glob("*.pdopt")} == {"0", "model_final"}
    state = read_verified(trainer.output / "model_final").state
    assert (state.epoch, state.images, state.iteration, state.steps_per_epoch, state.evaluated) == (2, 0, 6, 4, True)
    assert [epoch for epoch, _ in trainer.history] == [1, 2]
    lines = [
        (line["event"], line["iteration"], line["epoch"], line["step"])
        for line in read_history(trainer.output / HISTORY)
    ]
    assert lines[-2:] == [("report", 6, 2, 2), ("evaluation", 6, 2, 2)]
    assert "training: 2 epochs of 4 steps, 6 steps in all, 2 images per step" in log.text
    last = [r.getMessage() for r in log.records if "learning_rate: " in r.getMessage()][-1]
    assert "Epoch: [2/2] [2/2] " in last and "eta: 0:00:00 " in last


def test_workers_read_no_further_and_go_on(tiny, tmp_path):
    alone, helped = Steps(), Steps()
    one = run(tiny, hook=alone)
    other = run(tiny, f"save_dir={tmp_path}/workers", "worker_num=2", hook=helped)
    assert helped.images == alone.images and len(helped.images) == 6
    assert_same_weights(one, other)


def test_a_run_killed_twice_ends_as_if_nothing_had_happened(tiny, tmp_path):
    """In both of its epochs."""
    whole, first, second, rest = Steps(), Steps(3), Steps(5), Steps()
    unbroken = run(tiny, f"save_dir={tmp_path}/whole", "snapshot_iters=1", hook=whole, evaluate=True)
    for part in (first, second):
        with pytest.raises(KeyboardInterrupt):
            run(tiny, "snapshot_iters=1", hook=part, evaluate=True, resume="auto")
    again = run(tiny, "snapshot_iters=1", hook=rest, evaluate=True, resume="auto")
    assert [len(part.images) for part in (first, second, rest)] == [3, 2, 1]
    assert first.images + second.images + rest.images == whole.images
    assert first.rates + second.rates + rest.rates == pytest.approx(RATES)
    assert again.history == unbroken.history
    assert_same_weights(unbroken, again)


def test_a_finished_run_has_nothing_left(tiny, log):
    first = run(tiny, evaluate=True)
    before = (first.output / "model_final.json").read_bytes()
    hook = Steps()
    again = run(tiny, hook=hook, evaluate=True, resume="auto")
    assert (hook.images, again.iteration, again.history) == ([], 6, first.history)
    assert "nothing to train" in log.text
    assert (again.output / "model_final.json").read_bytes() == before


def test_a_pending_last_evaluation_is_made_up(tiny):
    first = Trainer(load_config(str(tiny), [*SIX, "snapshot_epoch=2"]), evaluate=True)

    def killed(model):
        raise KeyboardInterrupt

    first.evaluator = killed
    with pytest.raises(KeyboardInterrupt):
        first.train()
    again = run(tiny, "snapshot_epoch=2", evaluate=True, resume="auto")
    assert [epoch for epoch, _ in again.history] == [2]
    state = read_verified(again.output / "model_final").state
    assert (state.epoch, state.iteration, state.evaluated) == (2, 6, True)


@pytest.mark.parametrize(("more", "steps"), [(["max_iters=7"], 7), (["max_iters=null", "epoch=3"], 12)])
def test_a_finished_run_goes_on_where_it_was_cut(tiny, tmp_path, more, steps):
    """For more iterations: the rest of the epoch comes first."""
    whole, begin_run, rest = Steps(), Steps(), Steps()
    unbroken = run(tiny, f"save_dir={tmp_path}/whole", *more, hook=whole)
    run(tiny, hook=begin_run)
    again = run(tiny, *more, hook=rest, resume="auto")
    assert again.resumed_from.name == "model_final" and again.iteration == steps
    assert begin_run.images + rest.images == whole.images and len(whole.images) == steps
    assert begin_run.rates + rest.rates == pytest.approx(whole.rates)
    assert_same_weights(unbroken, again)


def test_stopped_at_the_very_last_step(tiny):
    """A stop request after the last step: the final checkpoint is written when the run is resumed."""

    class Stop(Hook):
        def after_step(self, trainer):
            if trainer.iteration == 6:
                trainer.stop_requests.received = 15

    with pytest.raises(SystemExit):
        run(tiny, hook=Stop())
    hook = Steps()
    again = run(tiny, hook=hook, evaluate=True, resume="auto")
    assert (again.resumed_from.name, hook.images, again.iteration) == ("snapshot_6", [], 6)
    assert (again.output / "model_final.pdparams").exists() and len(again.history) == 1


def test_dry_run_counts_the_steps(tiny):
    found = dry_run(Trainer(load_config(str(tiny), SIX)))
    assert (found["steps_left"], found["steps_per_epoch"]) == (6, 4)
    assert found["learning_rate"] == pytest.approx({"first": 0.0025, "warmed_up": 0.01, "warm_up_steps": 2})


@pytest.fixture
def tuned(tiny):
    """The tiny configuration (batch 2), with 6 iterations of 8 images: 24 steps of 2. The rate falls at 3 and 5."""
    text = tiny.read_text().replace("epoch: 2", "epoch: null\nmax_iters: 6") + "auto_lr: {base_batch_size: 8}\n"
    _, schedulers = DECAY.split("=")
    before, _, after = text.partition("schedulers: [")
    tiny.write_text(before + f"schedulers: {schedulers}" + after[after.index("]") + 1 :])
    return tiny


@pytest.mark.parametrize(
    ("options", "steps", "milestone"),
    [
        ([], 24, 12),
        (["TrainReader.batch_size=4"], 12, 6),
        (["TrainReader.batch_size=4", "accumulate_steps=2"], 6, 3),
        (["TrainReader.batch_size=3"], 16, 8),
        (["auto_lr=null"], 6, 3),
        (["max_iters=5"], 5, 12),  # as the user typed it; the milestones are the file's
        ([DECAY], 24, 3),
        ([DECAY, "max_iters=5"], 5, 3),
        (["LearningRate.schedulers.0.milestones=[4, 9]"], 24, 4),
        (["LearningRate.schedulers.0.milestones.0=4"], 24, 4),
        (["max_iters=5", "auto_lr.base_batch_size=4"], 5, 6),  # the number of images is for the file's milestones alone
        (["max_iters=5", "auto_lr.base_batch_size=4", "auto_lr.literal=[]"], 10, 6),
        (["epoch=2", "max_iters=null"], 8, 12),
    ],
)
def test_iterations_of_the_files_have_their_images(tuned, log, options, steps, milestone):
    trainer = Trainer(load_config(str(tuned), options))
    assert trainer.total_steps == steps
    rates = []
    for _ in range(20):
        rates.append(trainer.optimizer.get_lr())
        trainer.scheduler.step()
    base = trainer.schedule.base_lr
    assert rates[:2] == pytest.approx([base / 4] * 2), "the warm-up counts steps"
    assert (rates[milestone - 1], rates[milestone]) == pytest.approx((base, base / 10))
    told = f"max_iters: {steps} steps, for 6 of 8 images (auto_lr; a max_iters of your own counts steps)"
    assert (told in log.text) is (steps in (24, 12, 16))


def test_another_batch_size_after_the_end(tuned):
    """12 steps of 4 images are 24 of 2: the same images, so there is nothing left to do."""
    options = ["TrainReader.batch_size=4", "log_iter=100"]
    Trainer(load_config(str(tuned), options)).train()
    hook = Steps()
    again = Trainer(load_config(str(tuned), ["log_iter=100"]), resume="auto", hooks=[hook])
    assert (again.iteration, again.epoch, again.epochs) == (24, 6, 6)
    again.train()
    assert not hook.images
    state = json.loads((again.output / "model_final.json").read_text())["state"]
    assert (state["iteration"], state["steps_per_epoch"]) == (12, 2)
