"""Prefetching items in a thread."""

import threading

import pytest

from ppdet.utils import device
from ppdet.utils.iteration import newest, run_ahead


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


def test_newest_leaves_out_what_has_become_old():
    is_first_taken, are_more_there, is_third_taken = (threading.Event() for _ in range(3))

    def items():
        yield 0
        is_first_taken.wait()
        yield from (1, 2, 3)
        are_more_there.set()
        is_third_taken.wait()
        yield 4

    found = newest(items())
    assert next(found) == 0
    is_first_taken.set()
    are_more_there.wait()
    assert next(found) == 3
    is_third_taken.set()
    assert list(found) == [4]


def test_newest_raises_after_the_last_item_and_ends_its_thread():
    def items():
        yield 1
        raise ValueError("broken")

    found = newest(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)

    def endless():
        while True:
            yield 0

    threads = threading.active_count()
    found = newest(endless())
    next(found)
    found.close()
    assert threading.active_count() == threads
