"""Imports without the garbage collector: it is off within the block, as before after it, and misses nothing later."""

import gc
import weakref

import pytest

from ppdet.utils.process.importing import without_garbage_collection


class Cycle:
    def __init__(self):
        self.itself = self


@pytest.fixture
def enabled():
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_is_off_within_the_block_and_then_as_it_was(enabled, before):
    (gc.enable if before else gc.disable)()
    with pytest.raises(KeyError), without_garbage_collection():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled() == before


def test_objects_of_the_block_are_old_and_are_collected_when_they_are_garbage(enabled):
    with without_garbage_collection():
        objects = [Cycle() for _ in range(3)]
        cycle = weakref.ref(Cycle())
        assert cycle() is not None
    assert gc.get_freeze_count() == 0
    assert any(one is objects for one in gc.get_objects(generation=2))
    gc.collect()
    assert cycle() is None


def test_what_the_caller_froze_stays_frozen(enabled):
    gc.freeze()
    count = gc.get_freeze_count()
    with without_garbage_collection():
        pass
    assert gc.get_freeze_count() >= count > 0
