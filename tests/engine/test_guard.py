"""Bad steps: skipped, written down, and the end of a run when there are too many."""

import json

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.guard import DivergedError, all_finite, tensors_of
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer


class Spoil(Hook):
    """Spoils the given iterations, and keeps all that a step can change, before and after each."""

    def __init__(self, iterations, how):
        self.iterations, self.how = iterations, how
        self.before, self.after, self.ids = {}, {}, {}
        self.handle = None

    def content(self, trainer):
        model = {name: value.numpy() for name, value in trainer.model.state_dict().items()}
        state = [value.numpy() for value in tensors_of(trainer.optimizer.state_dict())]
        return model, state

    def before_step(self, trainer):
        self.before[trainer.iteration] = self.content(trainer)
        self.ids[trainer.iteration] = trainer.batches[0]["im_id"].tolist()
        if trainer.iteration in self.iterations:
            if self.how == "image":
                trainer.batches[0]["image"][0, 0, 3, 3] = float("nan")
            elif self.how == "target":
                trainer.batches[0]["target_centerness"] = trainer.batches[0]["target_centerness"] * float("nan")
            else:
                weight = trainer.model.fcos_head.fcos_head_cls.weight
                self.handle = weight.register_hook(lambda gradient: gradient * 1e30 * 1e30)

    def after_step(self, trainer):
        self.after[trainer.iteration - 1] = self.content(trainer)
        if self.handle:
            self.handle.remove()
            self.handle = None


def equal(one, two):
    names = one[0].keys() == two[0].keys() and all(np.array_equal(one[0][k], two[0][k]) for k in one[0])
    return names and len(one[1]) == len(two[1]) and all(map(np.array_equal, one[1], two[1]))


def train(tiny, tmp_path, spoil, *, waits=True, options=()):
    cfg = load_config(str(tiny), [f"save_dir={tmp_path}", "epoch=2", *options])
    trainer = Trainer(cfg, hooks=[spoil])
    trainer.guard.waits = waits
    trainer.train()
    return trainer


@pytest.mark.parametrize("waits", [True, False], ids=["looks first", "takes back"])
@pytest.mark.parametrize("how", ["image", "target", "gradient"])
def test_a_bad_step_changes_nothing_and_its_images_are_named(tiny, tmp_path, log, how, waits):
    spoil = Spoil([2, 5], how)
    trainer = train(tiny, tmp_path, spoil, waits=waits, options=["use_ema=true"])
    assert trainer.iteration == 8 and trainer.guard.total == 2
    for iteration in range(8):
        assert equal(spoil.before[iteration], spoil.after[iteration]) == (iteration in (2, 5)), iteration
    content = [json.loads(line) for line in (tmp_path / "tiny" / "bad_steps.jsonl").read_text().splitlines()]
    assert [(c["epoch"], c["step"], c["iteration"]) for c in content] == [(0, 2, 2), (1, 1, 5)]
    for entry in content:
        (rank,) = entry["ranks"]
        assert [image["id"] for image in rank["images"]] == spoil.ids[entry["iteration"]]
        assert all(image["file"].endswith(f"{image['id']:03d}.png") for image in rank["images"])
        # A ReLU turns a pixel that is not a number into 0: the gradient alone shows it.
        assert (rank["losses"]["loss"] == "nan") == (how == "target")
    assert "step 3 of epoch 1 skipped" in log.text
    averages = trainer.ema.state_dict().values()
    assert all(np.isfinite(value.numpy()).all() for value in averages)


def test_looking_first_and_taking_back_come_to_the_same(tiny, tmp_path):
    runs = [Spoil([2, 5], "image") for _ in range(2)]
    for spoil, waits in zip(runs, (True, False)):
        train(tiny, tmp_path / str(waits), spoil, waits=waits)
    assert all(equal(runs[0].after[i], runs[1].after[i]) for i in range(8))


def test_many_bad_steps_in_a_row_end_the_run(tiny, tmp_path):
    with pytest.raises(DivergedError, match=r"3 steps in a row .* lower LearningRate.base_lr"):
        train(tiny, tmp_path, Spoil([0, 2, 3, 4], "image"), options=["max_bad_steps=3"])
    lines = (tmp_path / "tiny" / "bad_steps.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 2, 3, 4]


def test_a_step_that_cannot_be_written_down_does_not_end_the_run(tiny, tmp_path, log):
    (tmp_path / "tiny" / "bad_steps.jsonl").mkdir(parents=True)
    trainer = train(tiny, tmp_path, Spoil([2], "image"))
    assert trainer.iteration == 8 and trainer.guard.total == 1
    assert "bad_steps.jsonl could not be written" in log.text


def test_the_first_step_may_be_bad(tiny, tmp_path):
    spoil = Spoil([0], "image")
    train(tiny, tmp_path, spoil, waits=False)
    assert equal((spoil.before[0][0], []), (spoil.after[0][0], []))
    assert all(np.isfinite(value).all() for value in spoil.after[7][0].values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_is_what_numpy_calls_finite(bad):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 1e-3, shape).astype("float32") for shape in [(3,), (8, 4, 3, 3), (100, 1000)]]
    assert bool(all_finite([paddle.to_tensor(a) for a in arrays]))
    arrays[1][5, 2, 1, 0] = bad
    assert not bool(all_finite([paddle.to_tensor(a) for a in arrays]))
