"""Which requests form a batch, in which order, and what happens to failing ones."""

import threading

import numpy as np
import pytest
from patience import PATIENCE

from ppdet.deploy.serving.batching import Batcher
from ppdet.deploy.serving.prometheus import Metrics


class Engine:
    """Records its batches, and runs each when the test allows it."""

    def __init__(self):
        self.batches = []
        self.let = threading.Event()
        self.entered = threading.Event()

    def __call__(self, samples):
        self.entered.set()
        assert self.let.wait(PATIENCE)
        numbers = [sample["number"] for sample in samples]
        self.batches.append(numbers)
        if "bad" in numbers:
            raise RuntimeError("one of them is bad")
        return [f"result {number}" for number in numbers]


def sample(number, width=32):
    return {"number": number, "image": np.zeros((3, 32, width), np.uint8)}


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def batcher(engine):
    batcher = Batcher(engine, max_batch=3, max_delay_s=0.02, metrics=Metrics())
    yield batcher
    engine.let.set()
    batcher.close(PATIENCE)
    assert not batcher.thread.is_alive()


def busy(batcher, engine):
    """Submit one and wait until it runs, so that others queue up behind it."""
    future = batcher.submit(sample("first"))
    assert engine.entered.wait(PATIENCE)
    return future


def test_images_of_one_size_run_together_the_oldest_first(batcher, engine):
    futures = [busy(batcher, engine)]
    widths = [32, 64, 32, 32, 64, 32, 32]
    futures += [batcher.submit(sample(number, width)) for number, width in enumerate(widths)]
    assert batcher.metrics.registry.get_sample_value("ppdet_queue_depth") == 7
    engine.let.set()
    outcomes = [future.result(PATIENCE) for future in futures]
    assert engine.batches == [["first"], [0, 2, 3], [1, 4], [5, 6]]
    assert [outcome.result for outcome in outcomes[1:]] == [f"result {number}" for number in range(7)]
    assert [outcome.batch_size for outcome in outcomes] == [1, 3, 2, 3, 3, 2, 2, 2]
    value = batcher.metrics.registry.get_sample_value
    assert value("ppdet_batch_size_count") == 4 and value("ppdet_batch_size_sum") == 8
    assert value("ppdet_queue_depth") == 0


def test_the_first_one_waits_for_others_and_no_longer_than_it_may(engine):
    engine.let.set()
    batcher = Batcher(engine, max_batch=2, max_delay_s=0.3, metrics=Metrics())
    alone = batcher.submit(sample(0)).result(PATIENCE)
    assert alone.batch_size == 1 and alone.waited_s >= 0.3
    batcher.close(PATIENCE)


def test_a_full_batch_waits_for_nobody(engine):
    engine.let.set()
    batcher = Batcher(engine, max_batch=2, max_delay_s=100 * PATIENCE, metrics=Metrics())
    first, second = (batcher.submit(sample(number)) for number in range(2))
    assert first.result(PATIENCE).batch_size == second.result(PATIENCE).batch_size == 2
    batcher.close(PATIENCE)


def test_a_bad_one_does_not_take_the_others_with_it(batcher, engine, log):
    busy(batcher, engine)
    futures = [batcher.submit(sample(number)) for number in (1, "bad", 2)]
    engine.let.set()
    assert futures[0].result(PATIENCE).result == "result 1" and futures[2].result(PATIENCE).result == "result 2"
    with pytest.raises(RuntimeError, match="one of them is bad"):
        futures[1].result(PATIENCE)
    assert "running its images one by one" in log.text
    assert batcher.submit(sample("next")).result(PATIENCE).result == "result next"


def test_what_is_cancelled_does_not_run(batcher, engine):
    busy(batcher, engine)
    futures = [batcher.submit(sample(number)) for number in range(3)]
    assert futures[0].cancel()
    engine.let.set()
    futures[2].result(PATIENCE)
    assert engine.batches == [["first"], [1, 2]]


def test_closing_finishes_what_was_submitted(batcher, engine):
    futures = [busy(batcher, engine), *(batcher.submit(sample(number)) for number in range(4))]
    closing = threading.Thread(target=batcher.close, args=(PATIENCE,))
    closing.start()
    engine.let.set()
    closing.join(PATIENCE)
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(sample(9))
