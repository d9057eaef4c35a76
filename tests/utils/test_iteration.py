"""Prefetching items in a thread."""

import threading

import pytest

from ppdet.utils import device
from ppdet.utils.iteration import run_ahead


def test_items_are_made_in_a_thread_that_has_the_device_of_its_user(monkeypatch):
    """Before the first item is made."""
    steps = []
    monkeypatch.setattr(device, "thread_initializer", lambda: lambda: steps.append(("device", threading.get_ident())))

    def items():
        for number in range(3):
            steps.append((number, threading.get_ident()))
            yield number

    assert list(run_ahead(items(), 2)) == [0, 1, 2]
    assert [name for name, _ in steps] == ["device", 0, 1, 2]
    assert len({ident for _, ident in steps}) == 1 and steps[0][1] != threading.get_ident()


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        raise ValueError("the second")

    ahead = run_ahead(items(), 5)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="the second"):
        next(ahead)
