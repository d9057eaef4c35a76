"""Bad steps: skipped, written down, and the end of a run when there are too many."""

import json
import shutil

import numpy as np
import paddle
import pytest
from counting import Kernels, part
from paddle import nn

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints import state
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training import guard
from ppdet.engine.training.guard import DivergedError, StepGuard, tensors_of
from ppdet.engine.training.loss_scale import all_finite
from ppdet.optimizer import ModelEMA, OptimizerBuilder
from ppdet.optimizer.joined import divide

DESCRIPTION = {"epoch": 0, "step": 0, "iteration": 0, "losses": {}, "images": []}


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


def train(tiny, tmp_path, spoil, *, options=()):
    cfg = load_config(str(tiny), [f"save_dir={tmp_path}", "epoch=2", *options])
    trainer = Trainer(cfg, hooks=[spoil])
    trainer.train()
    return trainer


@pytest.mark.parametrize("rolls_back", [False, True], ids=["looks first", "rolls back"])
@pytest.mark.parametrize("how", ["image", "target", "gradient"])
def test_a_bad_step_changes_nothing_and_its_images_are_named(tiny, tmp_path, log, answer_for_device, how, rolls_back):
    answer_for_device(rolls_back)
    spoil = Spoil([2, 5], how)
    trainer = train(tiny, tmp_path, spoil, options=["use_ema=true"])
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


@pytest.mark.parametrize("rolls_back", [False, True], ids=["looks first", "rolls back"])
@pytest.mark.parametrize("onednn", [False, True], ids=["Paddle's layers", "oneDNN's"])
def test_a_bad_image_is_seen_by_the_statistics_of_a_frozen_stage(tiny, tmp_path, answer_for_device, onednn, rolls_back):
    """It has no gradients, and its ReLU makes 0 of the pixel for the rest of the network."""
    answer_for_device(rolls_back)
    spoil = Spoil([0, 2], "image")
    options = ["epoch=1", "ResNet.freeze_at=0", f"use_onednn={onednn}", "use_ema=true"]
    trainer = train(tiny, tmp_path, spoil, options=options)
    assert trainer.guard.total == 2
    lines = map(json.loads, trainer.guard.path.read_text().splitlines())
    losses = [line["ranks"][0]["losses"]["loss"] for line in lines]
    assert len(losses) == 2 and all(isinstance(loss, float) for loss in losses)
    assert [spoil.before[i][0].keys() == spoil.after[i][0].keys() for i in range(4)] == [True] * 4
    unchanged = [equal((spoil.before[i][0], []), (spoil.after[i][0], [])) for i in range(4)]
    assert unchanged == [True, False, True, False]
    assert all(np.isfinite(value.numpy()).all() for value in trainer.ema.state_dict().values())


def test_looking_first_and_taking_back_come_to_the_same(tiny, tmp_path, answer_for_device):
    runs = [Spoil([2, 5], "image") for _ in range(2)]
    for spoil, rolls_back in zip(runs, (False, True)):
        answer_for_device(rolls_back)
        # Where it looks first oneDNN would compute.
        train(tiny, tmp_path / str(rolls_back), spoil, options=["use_onednn=false"])
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


def test_the_first_step_may_be_bad(tiny, tmp_path, answer_for_device):
    answer_for_device()
    spoil = Spoil([0], "image")
    train(tiny, tmp_path, spoil)
    assert equal((spoil.before[0][0], []), (spoil.after[0][0], []))
    assert all(np.isfinite(value).all() for value in spoil.after[7][0].values())


@pytest.mark.parametrize("check", [all_finite, lambda gradients: divide(gradients, paddle.ones([]))])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_is_what_numpy_calls_finite(bad, check):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 1e-3, shape).astype("float32") for shape in [(3,), (8, 4, 3, 3), (100, 1000)]]
    gradients = [paddle.to_tensor(a) for a in arrays]
    assert bool(check(gradients))
    assert all(np.array_equal(gradient.numpy(), array) for gradient, array in zip(gradients, arrays))
    arrays[1][5, 2, 1, 0] = bad
    assert not bool(check([paddle.to_tensor(a) for a in arrays]))


class Net(nn.Layer):
    """Layers with batch norms, trained and frozen ones, weights that rest, and one that only some steps use."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.LayerList([nn.Conv2D(3, 3, 1) for _ in range(layers)])
        self.norms = nn.LayerList([nn.BatchNorm2D(3, use_global_stats=n % 2 == 1 or None) for n in range(layers)])
        self.layers[-1].bias.trainable = False
        self.sometimes = nn.Conv2D(3, 3, 1)

    def forward(self, x, uses_all=True):
        for layer, norm in zip(self.layers, self.norms):
            x = norm(layer(x))
        return (self.sometimes(x) if uses_all else x).square().mean()


CLIPPED = {"clip_grad_by_norm": 0.5}
OWN_RATE = {"param_groups": [{"params": ["bias"], "learning_rate": 2.0, "weight_decay": 0.0}]}
OPTIMIZERS = {
    "momentum": {**OWN_RATE},
    "momentum, clipped": {**CLIPPED},
    "momentum, L1": {
        "optimizer": {"type": "Momentum", "use_nesterov": True},
        "regularizer": {"type": "L1", "factor": 1e-3},
    },
    "sgd": {"optimizer": {"type": "SGD"}, **OWN_RATE},
    "adam": {"optimizer": {"type": "Adam"}, "clip_grad_by_value": 0.1},
    "adamw": {"optimizer": {"type": "AdamW", "weight_decay": 0.05}, **CLIPPED},
}


class Training:
    """Steps of a net under a guard that takes back, or looks first."""

    def __init__(self, options, *, rolls_back, layers=3, seed=0):
        paddle.seed(seed)
        self.model = Net(layers)
        self.optimizer = OptimizerBuilder(**options)(0.01, self.model)
        self.guard = StepGuard(self.model, self.optimizer, None, max_bad_steps=9, rolls_back=rolls_back)
        self.ema = ModelEMA(self.model, decay=0.9)
        if rolls_back:
            self.ema.join()
        self.rng = np.random.default_rng(seed)
        self.scale, self.rolls_back = paddle.ones([]), rolls_back

    def unscale(self, gradients):
        return (divide(gradients, self.scale) if self.rolls_back else all_finite(gradients)), None

    def adjust(self, finite):
        pass

    def step(self, *, bad=False, uses_all=True):
        x = self.rng.normal(size=(2, 3, 4, 4)).astype("float32")
        if bad:
            x[0, 0, 0, 0] = np.nan
        with part("before"):
            self.guard.before_forward()
        self.model(paddle.to_tensor(x), uses_all).backward()
        with part("update"):
            self.guard.update(self.guard.check(self), lambda: DESCRIPTION)
        self.optimizer.clear_grad(set_to_zero=False)
        with part("average"):
            self.ema.update()

    def content(self):
        found = state.optimizer_state(self.model, self.optimizer)
        tensors = {**self.model.state_dict(), **{k: v for k, v in found.items() if isinstance(v, paddle.Tensor)}}
        return {name: value.numpy().tobytes() for name, value in tensors.items()}


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_taking_back_is_bit_for_bit(options):
    """Weights, statistics and state: of a bad step those from before, of a good one those that looking first gives."""
    back, first = (Training(options, rolls_back=rolls_back) for rolls_back in (True, False))
    # The first step that would make the optimizer's state of the layer that rests is a bad one.
    rest, used = [(False, False), (True, False)], [(False, True), (True, True)]
    steps = [*used[1:], *rest, *rest, *used[::-1], *rest, *used, *used[::-1]]
    for number, (bad, uses_all) in enumerate(steps):
        before = back.content()
        for training in (back, first):
            training.step(bad=bad, uses_all=uses_all)
        assert back.content() == first.content(), number
        assert (back.content() == before) == bad, number
    back.guard.read_pending_checks()
    first.guard.read_pending_checks()
    assert back.guard.total == first.guard.total == sum(bad for bad, _ in steps)
    assert back.guard.in_a_row == first.guard.in_a_row == 0


def test_statistics_are_looked_at_and_not_divided():
    """By the loss scale, as gradients are."""
    scaled, first = (Training({}, rolls_back=rolls_back) for rolls_back in (True, False))
    scaled.scale = paddle.full([], 65536.0)
    for training in (scaled, first):
        training.step()
    pairs = list(zip(scaled.guard.statistics, first.guard.statistics))
    assert len(pairs) == 4 and all(np.array_equal(one.numpy(), other.numpy()) for one, other in pairs)


def launches(options, layers):
    """Kernels of a step before the forward pass, of the update without the optimizer's own, and of the average."""
    training = Training(options, rolls_back=True, layers=layers)
    training.step()
    training.model(paddle.ones([1, 3, 4, 4])).backward()
    with Kernels() as alone:
        training.optimizer.step()
    training.optimizer.clear_grad(set_to_zero=False)
    counts = []
    for bad in (False, True):
        with Kernels() as kernels:
            training.step(bad=bad)
        counts.append(
            [kernels.counts["before"], kernels.counts["update"] - alone.counts[""], kernels.counts["average"]]
        )
    assert counts[0] == counts[1]
    return [dict(counter) for counter in counts[0]]


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_kernels_are_as_few_for_any_network(options):
    """Copies of statistics and of all else, the check, and two choices: nothing for each weight.

    Statistics are copied once more: the check divides what it looks at.
    """
    choices = {"concat": 2, "expand": 2, "where": 2, "split": 2}
    update = {"check_finite_and_unscale": 1, "logical_not": 1, **choices, "concat": 4}
    average = {"full": 1, "concat": 2, "lerp": 1, "split": 1}
    for layers in (2, 8):
        assert launches(options, layers) == [{"concat": 1}, update, average]


@pytest.mark.parametrize("finite", [True, False])
def test_a_large_weight_is_copied_by_itself(monkeypatch, finite):
    """Its copy, and the choice, are one pass each; those that are joined are also put together and apart."""
    monkeypatch.setattr(guard, "LARGE", 27)
    tensors = [paddle.ones(shape) for shape in ([9], [3, 3, 3], [3], [26])]
    kept, finite_there = guard.Backup(tensors, join=True), paddle.to_tensor([finite])
    with Kernels() as kernels:
        kept.save()
        for tensor in tensors:
            tensor.scale_(np.nan)
        kept.roll_back_unless(finite_there)
    assert all(np.array_equal(t.numpy(), np.full(t.shape, np.nan if finite else 1.0), equal_nan=True) for t in tensors)
    counts = kernels.counts[""]
    assert [counts[name] for name in ("concat", "assign", "expand", "where", "split")] == [2, 1, 2, 2, 1]


def arrays(prefix):
    """All that a checkpoint holds."""
    saved = state.read_checkpoint(prefix)
    return {"weights": saved.weights, "averages": saved.averages, "optimizer": saved.optimizer, "ranks": saved.ranks}


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_a_checkpoint_of_a_bad_step_is_that_of_the_step_before(tiny, tmp_path, answer_for_device):
    """A run that continues from it is bit-identical, although the step's check was pending when it was saved."""
    answer_for_device()
    options = ["snapshot_iters=3", "log_iter=9", "use_ema=true", "use_onednn=false"]
    options += ["OptimizerBuilder={optimizer: {type: AdamW, momentum: null, weight_decay: 0.05}}"]
    spoil, folder = Spoil([5], "image"), tmp_path / "whole" / "tiny"
    whole = train(tiny, tmp_path / "whole", spoil, options=options)
    assert equal(spoil.before[5], spoil.after[5]) and not equal(spoil.before[4], spoil.after[4])
    assert same(state.read_checkpoint(folder / "snapshot_6").weights, spoil.before[5][0])
    shutil.copytree(folder, tmp_path / "again" / "tiny")
    options = [f"save_dir={tmp_path}/again", "epoch=2", *options]
    again = Trainer(load_config(str(tiny), options), resume=str(tmp_path / "again" / "tiny" / "snapshot_6"))
    again.train()
    assert whole.iteration == again.iteration == 8 and (whole.guard.total, again.guard.total) == (1, 0)
    assert same(arrays(folder / "model_final"), arrays(tmp_path / "again" / "tiny" / "model_final"))


def test_no_gradient_is_left_after_a_step(tiny):
    """Nor filled with zeros, which would take a kernel for each: the next backward pass makes them anew."""

    class Look(Hook):
        def __init__(self):
            self.left = []

        def after_step(self, trainer):
            self.left.append([p.name for p in trainer.model.parameters() if p.grad is not None])

    look = Look()
    Trainer(load_config(str(tiny), ["epoch=1"]), hooks=[look]).train()
    assert look.left == [[]] * 4


ELSEWHERE = """
import numpy as np, paddle
from paddle import nn
from ppdet.engine.training import guard as module
from ppdet.engine.training.guard import StepGuard, tensors_of
from ppdet.optimizer.joined import divide

module.LARGE = 9  # weights, but not biases

class Precision:
    def unscale(self, gradients):
        return divide(gradients, paddle.ones([])), None
    def adjust(self, finite):
        pass

paddle.set_device("pretend:0")
model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(6)))
optimizer = paddle.optimizer.AdamW(0.01, parameters=model.parameters())
guard = StepGuard(model, optimizer, None, max_bad_steps=9, rolls_back=True)
content = lambda: [t.numpy() for t in [*model.parameters(), *tensors_of(optimizer.state_dict())]]
for number, bad in enumerate([False, True, False, True, False]):
    if number == 1:  # as on a GPU, where Adam keeps them on the CPU
        for name in ("beta1_pow_acc", "beta2_pow_acc"):
            for tensor in optimizer._accumulators[name].values():
                tensor.cpu()._share_buffer_to(tensor)
        guard._with_state.clear()
    before = content() if number else []
    model(paddle.full([2, 3], np.nan if bad else 1.0 + number)).mean().backward()
    guard.update(guard.check(Precision()), lambda: {"epoch": 0, "step": 0, "iteration": 0, "losses": {}, "images": []})
    optimizer.clear_grad(set_to_zero=False)
    if number:
        same = all(map(np.array_equal, before, content()))
        places = {str(tensor.place) for tensor in tensors_of(optimizer.state_dict())}
        print("bad" if bad else "good", "same" if same else "changed", *sorted(places))
"""


def test_state_that_is_on_the_cpu_is_kept_too(pretend):
    lines = [line for line in pretend.run(ELSEWHERE).splitlines() if line.startswith(("good", "bad"))]
    # Step 1, which creates state, is checked before the update; from step 2 on, bad steps are rolled back.
    both, there = "Place(cpu) Place(pretend:0)", "Place(pretend:0)"
    assert lines == [f"bad same {both}", f"good changed {there}", f"bad same {there}", f"good changed {there}"]
