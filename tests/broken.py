"""Runs a check in this process, and breaks what it checks on one of its two sides."""

from collections.abc import Callable

import paddle
import pytest

from ppdet.acceptance.child import run_check
from ppdet.acceptance.context import Context
from ppdet.acceptance.registry import CHECKS, all_checks
from ppdet.acceptance.results import Result
from ppdet.modeling import cpu


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
