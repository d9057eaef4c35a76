"""The folder of a run: which checkpoints are kept, which one is resumed, and how damage is handled."""

import random
import resource
from pathlib import Path

import numpy as np
import paddle
import pytest
from killing import damage
from paddle import nn

from ppdet.engine.checkpoints.manifest import TrainingState, read_verified
from ppdet.engine.checkpoints.state import load_training, set_statistics, statistics
from ppdet.engine.checkpoints.weights import CheckpointError, read_arrays
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.optimizer import ModelEMA


def state(iteration, **changes):
    fields = dict.fromkeys(TrainingState._fields, 0)
    fields |= {"iteration": iteration, "best_ap": 0.1 + 0.2, "evaluated": True, "history": [[1, 0.5]], "loss_scale": {}}
    return TrainingState(**{**fields, **changes})


class Run:
    """A run of a small model; its weight is the number of the iteration in which it was saved."""

    def __init__(self, path, *, keep_every=1, weights_format="pdparams", ema=False):
        self.model = nn.Sequential(nn.Linear(100, 100), nn.BatchNorm2D(4))
        self.optimizer = paddle.optimizer.Momentum(0.1, parameters=self.model.parameters())
        self.model[0](paddle.ones([1, 100])).sum().backward()
        self.optimizer.step()
        self.ema = ModelEMA(self.model) if ema else None
        self.folder = RunFolder(path, keep_every=keep_every, weights_format=weights_format)

    def begin(self, resumed_from=None, go_on=False):
        self.folder.begin(resumed_from, go_on=go_on)
        return self

    def save(self, name, iteration, ranks=None):
        self.model[0].weight.set_value(paddle.full([100, 100], float(iteration)))
        return self.folder.save(name, state(iteration), self.model, self.optimizer, self.ema, ranks)

    def load(self, prefix):
        loaded = load_training(prefix, self.model, self.optimizer, self.ema)
        assert float(self.model[0].weight[0, 0]) == loaded.state.iteration
        return loaded.state


def newest(path):
    """Name of the checkpoint that --resume auto selects."""
    found = RunFolder(path, keep_every=1).newest()
    return found and found.name


def prefixes(path):
    return {p.stem for p in path.glob("*.pdopt")}


def test_state_comes_back_as_it_was(tmp_path):
    run = Run(tmp_path).begin()
    run.save("0", 4)
    assert run.load(tmp_path / "0") == state(4)
    assert read_verified(tmp_path / "0").state.best_ap == 0.1 + 0.2


@pytest.mark.parametrize(
    ("keep_every", "kept"),
    [(0, {"5"}), (1, {"0", "1", "2", "3", "4", "5"}), (2, {"1", "3", "5"}), (4, {"3", "5"})],
)
def test_which_epochs_stay(tmp_path, keep_every, kept):
    run = Run(tmp_path, keep_every=keep_every).begin()
    for epoch in range(6):
        run.save(f"snapshot_{10 * epoch + 5}", 10 * epoch + 5)
        run.save(str(epoch), 10 * epoch + 10)
    assert prefixes(tmp_path) == kept | {"snapshot_55"}, "the last two stay in any case"
    run.save("model_final", 70)
    assert prefixes(tmp_path) == kept | {"model_final"}
    assert not list(tmp_path.glob("snapshot_*")), "all files of a checkpoint go"


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("suffix", ["pdparams", "pdema", "pdopt", "json"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "removed"])
def test_damage_is_passed_over(tmp_path, log, how, suffix, ema):
    if suffix == "pdema" and not ema:
        pytest.skip("no such file")
    run = Run(tmp_path, ema=ema).begin()
    for iteration in (3, 6, 9):
        run.save(f"snapshot_{iteration}", iteration)
    path = tmp_path / f"snapshot_9.{suffix}"
    if how == "removed":
        path.unlink()
    else:
        damage(path, how, random.Random(0))
    log.clear()
    assert newest(tmp_path) == "snapshot_6"
    if (how, suffix) != ("removed", "json"):
        assert f"skipping damaged checkpoint: {path}: " in log.text
        with pytest.raises(CheckpointError, match=rf"snapshot_9\.{suffix}: "):
            run.load(tmp_path / "snapshot_9")


def test_every_bit_of_a_manifest_counts(tmp_path):
    run = Run(tmp_path).begin()
    run.save("0", 4)
    path = tmp_path / "0.json"
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            with pytest.raises(CheckpointError, match=r"0\.json: damaged"):
                read_verified(tmp_path / "0")


def test_a_damaged_checkpoint_does_not_push_out_whole_ones(tmp_path):
    run = Run(tmp_path, keep_every=0).begin()
    for iteration in (3, 6, 9):
        run.save(f"snapshot_{iteration}", iteration)
    damage(tmp_path / "snapshot_9.pdopt", "flipped", random.Random(0))
    again = Run(tmp_path, keep_every=0)
    again.begin(again.folder.newest(), go_on=True)
    again.save("snapshot_7", 7)  # stopped on request, say
    assert prefixes(tmp_path) == {"snapshot_6", "snapshot_7", "snapshot_9"}
    assert newest(tmp_path) == "snapshot_7"
    again.save("snapshot_9", 9)
    again.save("snapshot_12", 12)
    assert prefixes(tmp_path) == {"snapshot_9", "snapshot_12"} and newest(tmp_path) == "snapshot_12"


def test_another_runs_checkpoints_are_not_taken(tmp_path):
    assert newest(tmp_path) is None
    old = Run(tmp_path).begin()
    old.save("0", 4)
    old.save("1", 8)
    new = Run(tmp_path).begin()
    assert newest(tmp_path) is None, "a new run, killed before its first checkpoint"
    new.save("0", 4)
    assert newest(tmp_path) == "0"
    assert prefixes(tmp_path) == {"0", "1"}, "what others have left stays"


def test_a_run_that_was_started_from_a_checkpoint(tmp_path):
    Run(tmp_path / "a").begin().save("3", 16)
    run = Run(tmp_path / "b").begin(tmp_path / "a" / "3")
    found = RunFolder(tmp_path / "b", keep_every=1).newest()
    assert found == tmp_path / "a" / "3", "killed before its first checkpoint, it starts there once more"
    run.save("snapshot_18", 18)
    assert newest(tmp_path / "b") == "snapshot_18"
    Run(tmp_path / "b").begin()
    assert newest(tmp_path / "b") is None


def test_relative_paths_are_found_from_elsewhere(tmp_path, monkeypatch):
    Run(tmp_path / "a").begin().save("3", 16)
    monkeypatch.chdir(tmp_path)
    Run(tmp_path / "b").begin(Path("a/3"))
    monkeypatch.chdir("/")
    assert RunFolder(tmp_path / "b", keep_every=1).newest() == tmp_path / "a" / "3"


def test_going_on_beyond_the_end_keeps_the_start(tmp_path):
    """A run of more epochs than at first starts from model_final, and ends with another checkpoint of that name."""
    Run(tmp_path, keep_every=0).begin().save("model_final", 8)
    again = Run(tmp_path, keep_every=0)
    again.begin(again.folder.newest(), go_on=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            again.save("model_final", 12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert newest(tmp_path) == "snapshot_8"
    assert Run(tmp_path).load(tmp_path / "snapshot_8").iteration == 8
    again.save("model_final", 12)
    assert newest(tmp_path) == "model_final" and Run(tmp_path).load(tmp_path / "model_final").iteration == 12


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_damaged_run_file(tmp_path, log, how):
    """The checkpoint that was written last tells which run it was."""
    Run(tmp_path).begin().save("5", 24)
    Run(tmp_path).begin().save("0", 4)
    damage(tmp_path / "run.json", how, random.Random(1))
    assert newest(tmp_path) == "0"
    assert "run.json is damaged: using the run id of the newest checkpoint" in log.text
    again = RunFolder(tmp_path, keep_every=1)
    again.begin(again.newest(), go_on=True)
    log.clear()
    assert newest(tmp_path) == "0" and "damaged" not in log.text


def test_what_a_killed_process_leaves_is_removed(tmp_path):
    run = Run(tmp_path).begin()
    run.save("snapshot_3", 3)
    run.save("snapshot_6", 6)
    (tmp_path / "snapshot_6.json").unlink()
    (tmp_path / ".snapshot_9.pdparams.x.tmp").write_bytes(b"half")
    (tmp_path / "0.pdparams").write_bytes(b"of another tool")
    again = RunFolder(tmp_path, keep_every=1)
    again.begin(again.newest(), go_on=True)
    assert prefixes(tmp_path) == {"snapshot_3"} and not list(tmp_path.glob("*6*"))
    assert not list(tmp_path.glob(".*")) and (tmp_path / "0.pdparams").exists()


@pytest.mark.parametrize("ema", [False, True])
def test_safetensors(tmp_path, ema):
    Run(tmp_path, weights_format="pdparams", ema=ema).begin().save("0", 4)
    run = Run(tmp_path, weights_format="safetensors", ema=ema).begin()
    run.save("0", 4)
    names = {p.name for p in tmp_path.glob("0.*")}
    assert names == {"0.safetensors", "0.pdopt", "0.json"} | ({"0.trained.safetensors"} if ema else set())
    expected = {name: value.numpy() for name, value in (run.ema or run.model).state_dict().items()}
    read = read_arrays(tmp_path / "0.safetensors")
    assert all(np.array_equal(value, read[name]) for name, value in expected.items())
    other = Run(tmp_path, weights_format="pdparams", ema=ema)
    assert other.load(tmp_path / "0") == state(4)
    other.begin().save("0", 4)
    assert not list(tmp_path.glob("0.*safetensors")), "nothing of the form before is left beside the new one"


def test_best_weights_have_one_form(tmp_path):
    for form in ("safetensors", "pdparams", "safetensors"):
        run = Run(tmp_path, weights_format=form)
        path = run.folder.save_best(run.model.state_dict())
        assert [p.name for p in tmp_path.glob("best_model*")] == [path.name] == [f"best_model.{form}"]


def test_only_a_runs_own_checkpoint_gets_another_state(tmp_path):
    Run(tmp_path).begin().save("0", 4)
    run = Run(tmp_path).begin()
    run.folder.update_state("0", state(4, best_ap=0.9))
    run.folder.update_state("7", state(4, best_ap=0.9))
    assert read_verified(tmp_path / "0").state.best_ap != 0.9 and not (tmp_path / "7.json").exists()
    run.save("0", 4)
    run.folder.update_state("0", state(4, best_ap=0.9))
    assert run.load(tmp_path / "0").best_ap == 0.9


def test_weights_alone_do_not_resume(tmp_path):
    (tmp_path / "w.pdparams").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"w\.json: no such file: only checkpoints that a training run wrote"):
        read_verified(tmp_path / "w")


def test_averages_that_are_not_there(tmp_path):
    Run(tmp_path).begin().save("0", 4)
    with pytest.raises(CheckpointError, match="written without use_ema"):
        Run(tmp_path, ema=True).load(tmp_path / "0")


def test_statistics_of_every_rank(tmp_path):
    """On another number of ranks than they come from, they are averaged."""
    run = Run(tmp_path, ema=True).begin()
    names = list(statistics(run.model, run.ema))
    assert names == ["1._mean", "1._variance", "average|1._mean", "average|1._variance"]
    ranks = {str(r): {name: np.full(4, r + 1.0, np.float32) for name in names} for r in range(3)}
    run.save("snapshot_3", 3, ranks)
    assert "snapshot_3.pdranks" in {p.name for p in tmp_path.iterdir()}
    other = Run(tmp_path, ema=True)
    other.load(tmp_path / "snapshot_3")
    assert [float(v[0]) for v in statistics(other.model, other.ema).values()] == [2.0] * 4
    set_statistics(other.model, other.ema, {"0": ranks["2"]})
    assert [float(v[0]) for v in statistics(other.model, other.ema).values()] == [3.0] * 4
    set_statistics(other.model, other.ema, {})
    assert [float(v[0]) for v in statistics(other.model, other.ema).values()] == [3.0] * 4
