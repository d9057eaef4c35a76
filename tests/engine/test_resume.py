"""Resumed training: from the middle of an epoch, with another batch size, before a pending evaluation."""

import json

import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer


class Killed(Exception):
    pass


class KillAfter(Hook):
    """Ends the run without any warning after `iteration` steps."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_step(self, trainer):
        if trainer.iteration == self.iteration:
            raise Killed


class Images(Hook):
    """The images of every step."""

    def __init__(self):
        self.steps = []

    def after_step(self, trainer):
        self.steps.append(sorted(int(i) for batch in trainer.batches for i in batch["im_id"].flatten().tolist()))


def trainer(tiny, *options, resume=None, hooks=(), evaluate=False):
    cfg = load_config(str(tiny), ["log_iter=100", "snapshot_iters=3", *options])
    return Trainer(cfg, resume=resume, hooks=hooks, evaluate=evaluate)


@pytest.mark.parametrize(("form", "ema"), [("pdparams", "false"), ("safetensors", "true")])
def test_from_the_middle_of_an_epoch(tiny, tmp_path, form, ema):
    options = [f"weights_format={form}", f"use_ema={ema}", "ema_decay=0.9"]
    seen, seen_again = Images(), Images()
    whole = trainer(tiny, f"save_dir={tmp_path}/whole", *options, hooks=[seen])
    whole.train()
    broken = [f"save_dir={tmp_path}/broken", *options]
    with pytest.raises(Killed):
        trainer(tiny, *broken, hooks=[KillAfter(7)]).train()
    again = trainer(tiny, *broken, resume="auto", hooks=[seen_again])
    assert (again.resumed_from.name, again.epoch, again.first_step, again.iteration) == ("snapshot_6", 1, 2, 6)
    again.train()
    assert seen_again.steps == seen.steps[6:]
    names = {path.name for path in whole.output.glob("model_final.*")}
    assert {name.partition(".")[2] for name in names} == {
        "pdparams": {"pdparams", "pdopt", "json"},
        "safetensors": {"safetensors", "trained.safetensors", "pdopt", "json"},
    }[form]
    for name in names - {"model_final.json"}:
        one, other = (read_arrays(folder / name) for folder in (whole.output, again.output))
        for key, value in one.items():
            same = np.array_equal(value, other[key]) if isinstance(value, np.ndarray) else value == other[key]
            assert same, (name, key)


def test_middle_of_an_epoch_with_another_batch_size(tiny, log):
    with pytest.raises(Killed):
        trainer(tiny, hooks=[KillAfter(7)]).train()
    rest = Images()
    again = trainer(tiny, "TrainReader.batch_size=1", resume="auto", hooks=[rest])
    # Two steps of two images are done of an epoch that now has eight steps.
    assert (again.epoch, again.first_step, again.iteration, again.scheduler.last_epoch) == (1, 4, 12, 12)
    assert "an epoch has 8 steps, 4 when the checkpoint was written" in log.text
    again.train()
    assert len(rest.steps) == 4 and len({image for step in rest.steps for image in step}) == 4


def test_images_that_come_twice_are_told(tiny, log):
    with pytest.raises(Killed):
        trainer(tiny, hooks=[KillAfter(7)]).train()
    again = trainer(tiny, "TrainReader.batch_size=3", resume="auto")
    assert (again.epoch, again.first_step) == (1, 1)
    assert "1 images of this epoch will be read twice" in log.text


def test_pending_evaluation_is_made_up(tiny, tmp_path):
    """Killed between the checkpoint of an epoch and its evaluation."""
    whole = trainer(tiny, f"save_dir={tmp_path}/whole", evaluate=True)
    whole.train()
    broken = [f"save_dir={tmp_path}/broken"]
    first = trainer(tiny, *broken, evaluate=True)

    def killed(model):
        raise Killed

    first.evaluator = killed
    with pytest.raises(Killed):
        first.train()
    state = read_verified(first.output / "0").state
    assert (state.evaluated, state.history, state.best_ap) == (False, [], None)

    evaluated = []
    again = trainer(tiny, *broken, resume="auto", evaluate=True)
    evaluator = again.evaluator
    again.evaluator = lambda model: evaluated.append(again.iteration) or evaluator(model)
    again.train()
    assert evaluated == [4, 8]
    assert again.history == whole.history and len(whole.history) == 2
    states = [json.loads((t.output / "model_final.json").read_text())["state"] for t in (whole, again)]
    assert states[0] == states[1] and states[0]["evaluated"]
    best = [read_arrays(t.output / "best_model.pdparams") for t in (whole, again)]
    assert all(np.array_equal(value, best[1][name]) for name, value in best[0].items())


def test_pending_evaluation_is_not_made_of_later_weights(tiny):
    """The run went on without --eval, and is in the middle of the next epoch when it is evaluated again."""
    first = trainer(tiny, evaluate=True)

    def killed(model):
        raise Killed

    first.evaluator = killed
    with pytest.raises(Killed):
        first.train()
    with pytest.raises(Killed):
        trainer(tiny, resume="auto", hooks=[KillAfter(7)]).train()
    again = trainer(tiny, resume="auto", evaluate=True)
    assert again.resumed_from.name == "snapshot_6"
    again.train()
    assert [epoch for epoch, _ in again.history] == [2]


def test_nothing_to_resume(tiny, log):
    run = trainer(tiny, resume="auto")
    assert (run.resumed_from, run.iteration) == (None, 0)
    assert "has no checkpoint of a run yet: starting from the beginning" in log.text


def test_stopping_where_a_checkpoint_was_just_written(tiny):
    """It is not written a second time: a scheduler that asked to end soon ends the process."""
    run = trainer(tiny)

    class Stop(Hook):
        def after_step(self, trainer):
            if trainer.iteration == 3:
                self.written = (trainer.output / "snapshot_3.pdparams").stat().st_mtime_ns
                trainer.stop_requests.received = 15

    stop = Stop()
    run.hooks.append(stop)
    with pytest.raises(SystemExit) as caught:
        run.train()
    assert caught.value.code == 143
    assert (run.output / "snapshot_3.pdparams").stat().st_mtime_ns == stop.written
