"""Checkpoints whose manifest is right, with content that no training run writes: one line, and nothing is loaded."""

import pickle

import numpy as np
import paddle
import pytest
from paddle import nn

from ppdet.engine.checkpoints.manifest import (
    TrainingState,
    beside,
    fingerprint,
    read_manifest,
    write_manifest,
)
from ppdet.engine.checkpoints.state import load_training, statistics
from ppdet.engine.checkpoints.weights import CheckpointError, read_arrays
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.optimizer import ModelEMA

NAN, INF = float("nan"), float("inf")
STATE = TrainingState(**{
    **dict.fromkeys(TrainingState._fields, 1), "best_ap": 0.5, "history": [], "loss_scale": {}, "evaluated": True,
})  # fmt: skip


class Trained:
    """A model with a batch norm, averages, a schedule and a momentum, after a step."""

    def __init__(self):
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1D(4))
        schedule = paddle.optimizer.lr.LinearWarmup(paddle.optimizer.lr.StepDecay(0.1, 5), 3, 0.0, 0.1)
        self.optimizer = paddle.optimizer.Momentum(schedule, parameters=self.model.parameters())
        self.model(paddle.ones([2, 3])).sum().backward()
        self.optimizer.step()
        self.ema = ModelEMA(self.model)

    def load(self, prefix):
        return load_training(prefix, self.model, self.optimizer, self.ema)


@pytest.fixture
def prefix(tmp_path):
    trained, folder = Trained(), RunFolder(tmp_path, keep_every=1)
    folder.begin(None, go_on=False)
    ranks = {str(rank): statistics(trained.model, trained.ema) for rank in range(2)}
    return folder.save("0", STATE, trained.model, trained.optimizer, trained.ema, ranks, {"MyHook": {"a": [1, NAN]}})


def change(prefix, suffix, edit):
    """Change the content of one of the checkpoint's files, with a manifest that says so."""
    path = beside(prefix, suffix)
    content = read_arrays(path)
    content = edit(content) or content
    path.write_bytes(pickle.dumps(content))
    manifest = read_manifest(beside(prefix, ".json"))
    write_manifest(prefix, manifest._replace(files={**manifest.files, suffix: fingerprint(path)}))


def test_what_a_run_writes_is_loaded(prefix):
    """NaN too where it is a value of a hook, such as that of an epoch without evaluation."""
    assert np.isnan(Trained().load(prefix).hooks["MyHook"]["a"][1])


def put(value, *keys):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


def poison(value, *keys):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        changed = content[keys[-1]].copy()
        changed.reshape(-1)[-1] = value
        content[keys[-1]] = changed

    return edit


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("suffix", "keys"),
    [
        (".pdparams", ("0.weight",)),
        (".pdema", ("1._variance",)),
        (".pdopt", ("0.weight|_velocity_0",)),
        (".pdranks", ("1", "average|1._mean")),
    ],
)
def test_values_that_are_no_numbers(prefix, suffix, keys, value):
    change(prefix, suffix, poison(value, *keys))
    with pytest.raises(CheckpointError) as caught:
        Trained().load(prefix)
    assert str(caught.value).startswith(f"{beside(prefix, suffix)}: 1 of its ") and f"({keys[-1]})" in str(caught.value)


WHERE = {".pdopt": "LR_Scheduler", ".pdranks": "0", ".pdhooks": "MyHook"}


@pytest.mark.parametrize(
    ("suffix", "edit"),
    [
        *((suffix, put(5, key)) for suffix, key in WHERE.items()),
        *((suffix, put({}, 5)) for suffix in (*WHERE, ".pdparams", ".pdema")),
        (".pdopt", put([1], "LR_Scheduler", "last_lr")),
        (".pdopt", put("0.1", "LR_Scheduler", "last_epoch")),
        (".pdopt", put(NAN, "LR_Scheduler", "last_lr")),
        (".pdopt", put({"last_epoch": 1}, "LR_Scheduler")),
        (".pdopt", put({"last_epoch": 1, "last_lr": 0.1}, "LR_Scheduler")),
        (".pdopt", put(np.ones((9, 9), np.float32), "0.weight|_velocity_0")),
        (".pdopt", put("x", "0.weight|_velocity_0")),
        (".pdopt", put(np.ones(3, np.float32), "0.wrong|_velocity_0")),
        (".pdparams", lambda content: {"0.weight": content["0.weight"]}),
        (".pdparams", put(np.ones(7, np.float32), "1._mean")),
        (".pdparams", put("x", "1._mean")),
        (".pdema", put(np.ones(7, np.float32), "1._mean")),
        (".pdranks", put("x", "0", "1._mean")),
        (".pdranks", put(np.ones(7, np.float32), "0", "1._mean")),
        (".pdranks", lambda content: dict.fromkeys(map(str, range(5000)), content["0"])),
    ],
)
def test_content_that_no_run_writes(prefix, suffix, edit):
    change(prefix, suffix, edit)
    with pytest.raises(CheckpointError) as caught:
        Trained().load(prefix)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
