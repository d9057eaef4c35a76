"""Checkpoints that are not written: with NaN or infinite values, or larger than the free disk space."""

from pathlib import Path
from types import SimpleNamespace

import paddle
import pytest
from paddle import nn

from ppdet.core.workspace import load_config
from ppdet.engine.hooks.checkpointing import CheckpointHook, SaveError, check_finite
from ppdet.engine.trainer import Trainer
from ppdet.engine.training import dry_run as dry
from ppdet.engine.training.guard import DivergedError
from ppdet.optimizer import ModelEMA
from ppdet.utils.errors import UserError
from ppdet.utils.process.stop import StopRequests


class Trained:
    """A model with a batch norm, averaged weights and a momentum."""

    def __init__(self):
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4))
        self.optimizer = paddle.optimizer.Momentum(0.1, parameters=self.model.parameters())
        self.model(paddle.ones([2, 3])).sum().backward()
        self.optimizer.step()
        self.ema = ModelEMA(self.model)
        self.output = Path("output/run")
        self.stop_requests = StopRequests("")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda t: t.model.state_dict()["0.weight"], r"NaN or infinite values in the weights \(0.weight\)"),
        (lambda t: t.model.state_dict()["1._variance"], r"the weights \(1._variance\)"),
        (lambda t: t.ema.state_dict()["0.bias"], r"the averaged weights \(0.bias\)"),
        (lambda t: t.ema.state_dict()["1._mean"], r"the averaged weights \(1._mean\)"),
        (lambda t: velocity(t.optimizer), r"the optimizer state \(0.weight\|"),
    ],
    ids=["weights", "statistics", "averaged weights", "averaged statistics", "momentum"],
)
def test_a_checkpoint_with_values_that_are_no_numbers_is_not_written(place, message, value):
    trained = Trained()
    check_finite(trained.model, trained.ema, trained.optimizer)
    tensor = place(trained)
    changed = tensor.numpy().copy()
    changed.reshape(-1)[-1] = value
    tensor.set_value(changed)
    trained.folder = SimpleNamespace(save=lambda *_: pytest.fail("it was written"))
    hook = CheckpointHook(epochs=1, iters=0, evaluate=False)
    with pytest.raises(DivergedError, match=message):
        hook.write(trained, "0", None, None, {}, 1)


def velocity(optimizer):
    return next(value for name, value in optimizer.state_dict().items() if "velocity" in name)


def test_a_last_checkpoint_that_cannot_be_written_is_one_line(monkeypatch):
    trained, attempts, slept = Trained(), [], []
    monkeypatch.setattr("ppdet.engine.hooks.checkpointing.time", SimpleNamespace(sleep=slept.append))

    def save(*arguments):
        attempts.append(arguments)
        raise OSError(28, "No space left on device", "/tmp/.model_final.pdparams.x.tmp")

    trained.folder = SimpleNamespace(save=save)
    hook = CheckpointHook(epochs=1, iters=0, evaluate=False)
    with pytest.raises(SaveError) as caught:
        hook.write(trained, "model_final", None, None, {}, 3)
    assert len(attempts) == 3 and isinstance(caught.value, UserError) and sum(slept) == 2 * 30
    assert str(caught.value) == (
        "output/run/model_final: the last checkpoint cannot be written (No space left on device): make room, and run "
        "the same command with -r auto, which continues from the last complete checkpoint"
    )


@pytest.mark.parametrize(
    ("options", "checkpoints"),
    [
        # Of six epochs, five have a checkpoint before the last, and two of them stay.
        (["epoch=6", "keep_checkpoints=0"], 2 + 1),
        (["epoch=6", "keep_checkpoints=1"], 5 + 1),
        (["epoch=6", "keep_checkpoints=2"], 2 + 2 + 1),
        (["epoch=1", "keep_checkpoints=1"], 1),
        (["epoch=1", "keep_checkpoints=1", "snapshot_iters=2"], 2 + 1),
    ],
    ids=str,
)
def test_a_disk_that_is_too_small_gets_a_warning(tiny, log, options, checkpoints):
    trainer = Trainer(load_config(str(tiny), options))
    one = dry.checkpoint_bytes(trainer)
    assert dry.run_bytes(trainer) == checkpoints * one
    facts = {"free_bytes": checkpoints * one, "run_bytes": checkpoints * one, "checkpoint_bytes": one}
    dry.warn_of_disk(trainer, facts)
    assert "will not hold this run" not in log.text
    dry.warn_of_disk(trainer, {**facts, "free_bytes": checkpoints * one - 1})
    assert "will not hold this run" in log.text
    # From 1 on, every n-th checkpoint stays: a lower number takes more room.
    end = ", or keep_checkpoints=0, which keeps only the last two" if trainer.folder.keep_every else ""
    assert log.text.rstrip().endswith(f"make room, or set save_dir to another disk{end}")
    assert ("not even enough for one" in log.text) == (checkpoints == 1)
