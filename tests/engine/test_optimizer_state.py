"""The optimizer's state under the model's names: it belongs to another process's model of the same parameters."""

from functools import partial

import numpy as np
import paddle
import pytest
from paddle import nn

from ppdet.engine.checkpoints.state import optimizer_state, set_optimizer_state
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.training.guard import Checked, StepGuard


def trained(kind=paddle.optimizer.Momentum, steps=0, **sizes):
    """A model, an optimizer, and a function that does steps."""
    sizes = sizes or {"first": 3, "second": 3}
    model = nn.LayerDict({name: nn.Linear(2, size) for name, size in sizes.items()})
    optimizer = kind(0.1, parameters=model.parameters())

    def train(count):
        for number in range(count):
            used = [layer for name, layer in model.items() if name != "unused"]
            loss = sum(((number + 1) * layer(paddle.ones([1, 2])) ** 2).sum() for layer in used)
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()

    train(steps)
    return model, optimizer, train


def test_another_model_goes_on_as_the_first_would():
    model, optimizer, train = trained(steps=3)
    state = {key: np.array(value) if paddle.is_tensor(value) else value
             for key, value in optimizer_state(model, optimizer).items()}  # fmt: skip
    names = {name for name, _ in model.named_parameters()}
    assert {key.split("|")[0] for key in state if "|" in key} == names
    other, other_optimizer, other_train = trained()
    assert {p.name for p in other.parameters()}.isdisjoint(p.name for p in model.parameters())
    other.set_state_dict(model.state_dict())
    set_optimizer_state(other, other_optimizer, {k: paddle.to_tensor(v) if isinstance(v, np.ndarray) else v
                                                 for k, v in state.items()})  # fmt: skip
    train(2)
    other_train(2)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(other.state_dict()[name].numpy(), value.numpy(), rtol=1e-6)


def test_state_of_another_model_is_refused():
    model, optimizer, _ = trained(steps=1)
    other, other_optimizer, _ = trained(first=3)
    with pytest.raises(CheckpointError, match=r"belongs to another model: it has the parameter second\."):
        set_optimizer_state(other, other_optimizer, optimizer_state(model, optimizer))


def test_state_that_lacks_a_parameter():
    """Only the first step shows it: a parameter that the loss does not use has no state in any checkpoint."""
    model, optimizer, _ = trained(steps=1, first=3, second=3, unused=3)
    state = optimizer_state(model, optimizer)
    for lacking in ("", "second.weight"):
        other, other_optimizer, _ = trained(first=3, second=3, unused=3)
        kept = {key: value for key, value in state.items() if key.split("|")[0] != lacking}
        set_optimizer_state(other, other_optimizer, kept)
        guard = StepGuard(other, other_optimizer, None, max_bad_steps=1, rolls_back=False)
        sum(other[name](paddle.ones([1, 2])).sum() for name in ("first", "second")).backward()
        step = partial(guard.update, Checked(paddle.to_tensor(True), None), dict)
        if not lacking:
            step()
        else:
            with pytest.raises(CheckpointError, match=r"lacks the parameter second\.weight: resume from an older"):
                step()
