"""Runs that end when their evaluations no longer become better."""

import json

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.hooks import Hook
from ppdet.engine.hooks.checkpointing import CheckpointHook
from ppdet.engine.hooks.early_stopping import EarlyStoppingHook
from ppdet.engine.hooks.history import read_history
from ppdet.engine.runs import analysis
from ppdet.engine.trainer import Trainer

VALUES = [0.1, 0.3, 0.3, 0.2, 0.4, 0.5]  # 0.3 is not beaten by the next two


class Killed(Exception):
    pass


class KilledInEvaluation(Hook):
    """Ends the run when the fourth evaluation is finished, and not yet noted in the checkpoint."""

    def after_evaluation(self, trainer, numbers):
        if trainer.iteration == 4:
            raise Killed


class KilledBeforeFinal(Hook):
    """Ends the run when it would write model_final."""

    def before_train(self, trainer):
        save = trainer.folder.save

        def killed(name, *arguments):
            if name == "model_final":
                raise Killed
            return save(name, *arguments)

        trainer.folder.save = killed


def run(tiny, folder, *options, resume=None, hooks=(), evaluate=True):
    """Train; the evaluation after epoch n (from 1) is said to be VALUES[n - 1]."""
    cfg = load_config(
        str(tiny),
        [f"save_dir={folder}", "epoch=6", "log_iter=100", "keep_checkpoints=0", "TrainDataset.sample_num=2", *options],
    )
    trainer = Trainer(cfg, evaluate=evaluate, resume=resume, hooks=hooks)
    if evaluate:
        trainer.evaluator = lambda model: {"AP": VALUES[trainer.iteration - 1]}
    trainer.train()
    return trainer


def manifest(trainer):
    return json.loads((trainer.output / "model_final.json").read_text())["state"]


def test_the_run_ends_after_the_evaluations_of_patience(tiny, tmp_path, log):
    whole = run(tiny, tmp_path / "whole", "patience=2")
    assert (whole.epoch, whole.history) == (4, [[1, 0.1], [2, 0.3], [3, 0.3], [4, 0.2]])
    reason = "AP was 0.300 after epoch 2, and the 2 evaluations since then were not better (patience 2)"
    assert f"training ends early, after epoch 4 of 6: {reason}" in log.text
    assert read_history(whole.output / "history.jsonl")[-1]["reason"] == reason
    assert f"tiny: ended early: {reason}" in analysis.table(analysis.read_runs([whole.output]))
    assert read_verified(whole.output / "model_final").state.epoch == 4
    weights = [read_arrays(whole.output / f"{name}.pdparams") for name in ("model_final", "3", "best_model")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not np.array_equal(weights[0][name], weights[2][name]) for name in weights[0])

    for killer in (KilledInEvaluation(), KilledBeforeFinal()):
        folder = tmp_path / type(killer).__name__
        with pytest.raises(Killed):
            run(tiny, folder, "patience=2", hooks=[killer])
        assert not (folder / "tiny" / "model_final.json").exists()
        again = run(tiny, folder, "patience=2", resume="auto")
        assert manifest(again) == manifest(whole)
        assert again.history == whole.history
        one, other = (read_arrays(t.output / "model_final.pdopt") for t in (whole, again))
        assert all(np.array_equal(one[key], other[key]) for key in one if isinstance(one[key], np.ndarray))
        ends = [line for line in read_history(again.output / "history.jsonl") if line["event"] == "end"]
        assert [line["reason"] for line in ends] == [reason]

    # With the same patience nothing is left to do; with a higher one the run goes on.
    assert run(tiny, tmp_path / "whole", "patience=2", resume="auto").iteration == 4
    longer = run(tiny, tmp_path / "whole", "patience=3", resume="auto")
    assert (longer.epoch, longer.end_reason, manifest(longer)["epoch"]) == (6, "", 6)
    assert not [line for line in read_history(longer.output / "history.jsonl") if line["event"] == "end"]


def test_the_last_epoch_is_not_called_early(tiny, tmp_path, log):
    trainer = run(tiny, tmp_path, "patience=2", "epoch=4")
    assert (trainer.epoch, trainer.end_reason) == (4, "")
    assert "ends early" not in log.text


def test_without_evaluations_patience_is_a_warning(tiny, tmp_path, log):
    trainer = run(tiny, tmp_path, "patience=1", "epoch=2", evaluate=False)
    assert trainer.epoch == 2
    assert "patience 1 has no effect, since nothing is evaluated: add --eval" in log.text


def test_zeros_are_not_counted_and_the_latest_of_them_is_the_best(tiny, tmp_path):
    cfg = load_config(str(tiny), [f"save_dir={tmp_path}", "epoch=9", "patience=1"])
    trainer = Trainer(cfg, evaluate=True)
    checkpoints, stopping = (
        next(h for h in trainer.hooks if isinstance(h, t)) for t in (CheckpointHook, EarlyStoppingHook)
    )
    name, weight = next(iter(trainer.model.state_dict().items()))
    ends, best = [], []
    for epoch, value in enumerate([0.0, 0.0, 0.1, 0.1]):
        weight.set_value(paddle.full_like(weight, epoch))
        checkpoints.note_evaluation(trainer, epoch, str(epoch), {"AP": value})
        stopping._decide(trainer, epoch + 1)
        ends.append(trainer.end_reason)
        best.append(read_arrays(trainer.output / "best_model.pdparams")[name].flat[0])
    assert best == [0, 1, 2, 2]
    assert ends[:3] == ["", "", ""] and ends[3].startswith("AP was 0.100 after epoch 3, and the evaluation since then")
