"""Runs a check in this process, and breaks what it checks on one of its two sides."""

from collections.abc import Callable
from pathlib import Path

import paddle
import pytest

from ppdet.acceptance import made
from ppdet.acceptance.checks import guard, training
from ppdet.acceptance.child import run_check
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import Facts
from ppdet.acceptance.registry import CHECKS, all_checks
from ppdet.acceptance.results import Result
from ppdet.modeling import cpu

SMALL = {"TrainReader.batch_size": 2, "auto_lr": None, "LearningRate.schedulers": []}


def short_context(patch: pytest.MonkeyPatch, facts: Facts, work: Path) -> Context:
    """Of short runs on few small images."""
    settings = made.settings
    patch.setattr(made, "TRAIN_IMAGES", 24)
    patch.setattr(made, "VAL_IMAGES", 4)
    patch.setattr(made, "SIDE", 96)
    patch.setattr(made, "settings", lambda *arguments: {**settings(*arguments), **SMALL})
    patch.setattr(training, "QUICK_STEPS", 4)
    patch.setattr(guard, "STEPS", 3)
    patch.setattr(guard, "BAD", (0, 2))
    return Context(facts, quick=True, work=work)


def run(name: str, context: Context) -> Result:
    all_checks()
    return run_check(CHECKS[name], context)[0]


def on_device() -> bool:
    """Whether it is the device's turn, and not that of the CPU it is compared with (`Context.on_reference`)."""
    return cpu._enabled


def off_by_one_percent(patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Make the function's result on the device 1 % too large: tensors, or tuples of them."""
    right = getattr(owner, name)

    def wrong(*arguments: object, **options: object) -> object:
        result = right(*arguments, **options)
        return larger(result) if on_device() else result

    patch.setattr(owner, name, wrong)


def larger(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(map(larger, value))
    return value * 1.01 if isinstance(value, (paddle.Tensor, float)) else value


def change(patch: pytest.MonkeyPatch, owner: object, name: str, wrap: Callable) -> None:
    """Put wrap(function) in the place of a function."""
    patch.setattr(owner, name, wrap(getattr(owner, name)))
