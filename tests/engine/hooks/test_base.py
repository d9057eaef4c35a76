"""The contract of hooks: the order of events, gradients before the update, state that survives a resume."""

import numpy as np
import paddle
import pytest

from ppdet.core.registry import register
from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.hooks import Hook
from ppdet.engine.hooks.base import hook_states, load_hook_states
from ppdet.engine.trainer import Trainer
from ppdet.utils.errors import ConfigError

EVENTS = [name for name in vars(Hook) if not name.startswith("_") and name not in ("state", "load_state", "writes")]


class Diary(Hook):
    """Notes the events of a run, with the number of steps done."""

    def __init__(self):
        self.events = []

    def state(self):
        self.events.append("state")


def noting(name):
    def note(self, trainer, *details):
        self.events.append(f"{name} {trainer.iteration}")

    return note


for event in EVENTS:
    setattr(Diary, event, noting(event))


def test_events_come_in_the_order_that_the_class_documents(tiny):
    diary = Diary()
    Trainer(load_config(str(tiny), ["epoch=1", "max_iters=2", "log_iter=5"]), evaluate=True, hooks=[diary]).train()
    assert diary.events == [
        "before_train 0",
        *("before_step 0", "after_backward 0", "after_report 1", "after_step 1"),
        *("before_step 1", "after_backward 1", "after_report 2", "after_step 2"),
        *("state", "after_evaluation 2", "after_epoch 2", "after_train 2", "close 2"),
    ]
    documented = Hook.__doc__
    places = [documented.index(f" {name} ") for name in ("before_step", "after_backward", "after_step", "after_train")]
    assert places == sorted(places)


class Gradients(Hook):
    """Halves the gradients of every step, and keeps the weights and gradients of the first one."""

    def before_train(self, trainer):
        self.weight = trainer.model.fcos_head.fcos_head_cls.weight
        self.before = self.weight.numpy()

    def after_backward(self, trainer):
        assert np.array_equal(self.weight.numpy(), self.before)
        self.gradient = self.weight.grad.numpy()
        self.weight.grad.set_value(self.weight.grad * 0.5)

    def after_step(self, trainer):
        self.after = self.weight.numpy()
        self.rate = trainer.learning_rate


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_may_be_changed_before_the_update(tiny, accumulate):
    hook = Gradients()
    options = ["max_iters=1", f"accumulate_steps={accumulate}", "OptimizerBuilder.regularizer=null"]
    options += ["OptimizerBuilder.optimizer={type: SGD, momentum: null}"]
    Trainer(load_config(str(tiny), options), hooks=[hook]).train()
    assert np.abs(hook.gradient).max() > 0
    moved = hook.before - hook.after
    assert np.allclose(moved, 0.5 * hook.rate * hook.gradient, rtol=1e-3, atol=1e-7)


class Momentum(Hook):
    """Adds a moving average of past losses to the learning: a run that lost it would train otherwise."""

    def __init__(self):
        self.average, self.steps = np.zeros(1, np.float64), 0

    def after_backward(self, trainer):
        self.average = 0.9 * self.average + float(trainer.losses["loss"])
        self.steps += 1
        for parameter in trainer.model.parameters():
            if parameter.grad is not None:
                parameter.grad.set_value(parameter.grad * float(self.average[0]))

    def state(self):
        return {"average": self.average, "more": {"steps": self.steps}}

    def load_state(self, state):
        self.average, self.steps = state["average"], state["more"]["steps"]


def test_a_state_goes_through_checkpoints_bit_for_bit(tiny, tmp_path, log):
    options = ["epoch=2", "snapshot_iters=3", "LearningRate.base_lr=0.0001"]
    unbroken = Momentum()
    Trainer(load_config(str(tiny), options), hooks=[unbroken]).train()
    final = tmp_path / "output" / "tiny" / "model_final.pdparams"
    expected = read_arrays(final)
    resumed = Momentum()
    again = load_config(str(tiny), [*options, f"save_dir={tmp_path / 'again'}"])
    Trainer(again, resume=str(tmp_path / "output" / "tiny" / "snapshot_6"), hooks=[resumed]).train()
    assert resumed.steps == unbroken.steps == 8 and np.array_equal(resumed.average, unbroken.average)
    found = read_arrays(tmp_path / "again" / "tiny" / "model_final.pdparams")
    assert all(np.array_equal(value, found[name]) for name, value in expected.items())
    # Without the hook the checkpoint loads as well, and the log names what is missing.
    Trainer(load_config(str(tiny), options), resume=str(tmp_path / "output" / "tiny" / "snapshot_6"))
    assert "the checkpoint has a state of the hook Momentum, but this run has no such hook" in log.text


def test_states_of_two_hooks_of_a_class_are_kept_apart():
    class Counter(Hook):
        def __init__(self, count):
            self.count = count

        def state(self):
            return {"count": self.count, "pair": (1, np.float32(0.5))}

        def load_state(self, state):
            self.count = state["count"]

    states = hook_states([Counter(1), Hook(), Counter(2)])
    assert states == {"Counter": {"count": 1, "pair": [1, 0.5]}, "Counter_2": {"count": 2, "pair": [1, 0.5]}}
    hooks = [Counter(0), Counter(0)]
    load_hook_states(hooks, states)
    assert [hook.count for hook in hooks] == [1, 2]


@pytest.mark.parametrize("value", [paddle.zeros([1]), {1, 2}, np.array(["a"]), {1: 2}])
def test_what_a_checkpoint_cannot_keep_is_refused(value):
    class Wrong(Hook):
        def state(self):
            return {"rows": [value]}

    with pytest.raises(ConfigError, match=r"Wrong\.state\(\)\['rows'\]\[0\]"):
        hook_states([Wrong()])


@register
class CountingHook(Hook):
    """Counts steps."""

    def __init__(self, *, interval: int = 2) -> None:
        self.interval = interval
        self.steps = 0

    def after_step(self, trainer):
        self.steps += 1


@register
class NoHook:
    """A component that is not a hook."""


def test_hooks_of_a_yaml_file_come_between_the_default_ones_and_pythons(tiny):
    text = (
        tiny.read_text() + "\nhooks: [CountingHook, {name: CountingHook, interval: 5}, CountingHook: {interval: 7}]\n"
    )
    tiny.write_text(text + "CountingHook: {interval: 3}\n")
    own = Hook()
    trainer = Trainer(load_config(str(tiny), ["max_iters=2", "hooks.2.interval=8"]), hooks=[own])
    hooks = trainer.hooks[-4:]
    assert [type(hook) for hook in hooks] == [CountingHook] * 3 + [Hook] and hooks[3] is own
    assert [hook.interval for hook in hooks[:3]] == [3, 5, 8]
    trainer.train()
    assert [hook.steps for hook in hooks[:3]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ("[NoHok]", "hooks.0: there is no component 'NoHok'; did you mean 'NoHook'?"),
        ("CountingHook", "hooks: expected a list of components, got 'CountingHook' (text)"),
        ("[{name: CountingHook, every: 3}]", "hooks.0.every: "),
        ("[NoHook]", "hooks.0: NoHook is not a Hook: derive the class from ppdet.engine.hooks.base.Hook"),
    ],
)
def test_what_is_no_list_of_hooks_is_refused(tiny, hooks, message):
    with pytest.raises(ConfigError) as caught:
        Trainer(load_config(str(tiny), [f"hooks={hooks}"]))
    assert str(caught.value).startswith(f"-o: {message}")
