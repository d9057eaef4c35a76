"""Which requests form a batch, in which order, and what happens to failing ones."""

import threading

import numpy as np
import pytest
from patience import PATIENCE, wait_until

from ppdet.deploy.serving.batching import Batcher
from ppdet.deploy.serving.jobs import Prepared
from ppdet.deploy.serving.limits import Refused
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.deploy.serving.worker_process import Died


class Engine:
    """Records its batches, and runs one at a time, when the test allows it.

    `deaths` says for some numbers how often the engine's process dies when they come.
    """

    def __init__(self):
        self.batches = []
        self.deaths = {}
        self.let = threading.Event()
        self.entered = threading.Event()
        self.one = threading.Lock()

    def __call__(self, samples):
        with self.one:
            self.entered.set()
            assert self.let.wait(PATIENCE)
            numbers = [sample.slot for sample in samples]
            self.batches.append(numbers)
            for number in numbers:
                if self.deaths.get(number, 0):
                    self.deaths[number] -= 1
                    raise Died("the process died (signal SIGKILL)")
            if "bad" in numbers:
                raise RuntimeError("one of them is bad")
            return [f"result {number}" for number in numbers], 0.0


def sample(number, width=32):
    return Prepared(number, [{"image": np.zeros((3, 32, width), np.uint8)}], width, 32)


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def batcher(engine):
    batcher = Batcher(engine, max_batch=3, max_delay_s=0.02, metrics=Metrics())
    yield batcher
    engine.let.set()
    batcher.close(PATIENCE)
    assert not any(thread.is_alive() for thread in batcher.threads)


def busy(batcher, engine):
    """Submit one and wait until it runs, so that others queue up behind it."""
    future = batcher.submit(sample("first")).future
    assert engine.entered.wait(PATIENCE)
    return future


def test_images_of_one_size_run_together_the_oldest_first(batcher, engine):
    futures = [busy(batcher, engine)]
    widths = [32, 64, 32, 32, 64, 32, 32]
    with batcher.condition:  # they come at once
        futures += [batcher.submit(sample(number, width)).future for number, width in enumerate(widths)]
    wait_until(lambda: len(batcher.waiting) == 4)  # the next full batch waits in the pipe of the model's process
    assert batcher.metrics.registry.get_sample_value("ppdet_queue_depth") == 4
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
    alone = batcher.submit(sample(0)).future.result(PATIENCE)
    assert alone.batch_size == 1 and alone.waited_s >= 0.3
    batcher.close(PATIENCE)


def test_a_full_batch_waits_for_nobody(engine):
    engine.let.set()
    batcher = Batcher(engine, max_batch=2, max_delay_s=100 * PATIENCE, metrics=Metrics())
    first, second = (batcher.submit(sample(number)).future for number in range(2))
    assert first.result(PATIENCE).batch_size == second.result(PATIENCE).batch_size == 2
    batcher.close(PATIENCE)


def test_a_bad_one_does_not_take_the_others_with_it(batcher, engine, log):
    busy(batcher, engine)
    futures = [batcher.submit(sample(number)).future for number in (1, "bad", 2)]
    engine.let.set()
    assert futures[0].result(PATIENCE).result == "result 1" and futures[2].result(PATIENCE).result == "result 2"
    with pytest.raises(RuntimeError, match="one of them is bad"):
        futures[1].result(PATIENCE)
    assert "running its images one by one" in log.text
    assert batcher.submit(sample("next")).future.result(PATIENCE).result == "result next"


def test_what_is_dropped_does_not_run(batcher, engine):
    busy(batcher, engine)
    items = [batcher.submit(sample(number)) for number in range(2)]
    batcher.drop(items[0])
    assert items[0].future.cancelled()
    items.append(batcher.submit(sample(2)))
    engine.let.set()
    items[2].future.result(PATIENCE)
    assert engine.batches == [["first"], [1, 2]]


def test_a_batch_runs_again_when_the_process_died(batcher, engine):
    engine.deaths = {1: 1}
    busy(batcher, engine)
    futures = [batcher.submit(sample(number)).future for number in range(3)]
    engine.let.set()
    assert [future.result(PATIENCE).result for future in futures] == ["result 0", "result 1", "result 2"]
    assert engine.batches == [["first"], [0, 1, 2], [0, 1, 2]]


def test_an_image_that_kills_the_process_takes_no_other_with_it(batcher, engine, log):
    engine.deaths = {1: 99}
    busy(batcher, engine)
    futures = [batcher.submit(sample(number)).future for number in range(3)]
    engine.let.set()
    assert [futures[number].result(PATIENCE).result for number in (0, 2)] == ["result 0", "result 2"]
    with pytest.raises(Refused, match="died each time") as refused:
        futures[1].result(PATIENCE)
    assert refused.value.status == 500
    assert engine.batches == [["first"], [0, 1, 2], [0, 1, 2], [0], [1], [2]]
    assert "an image is given up: the process died (signal SIGKILL)" in log.text


def test_nothing_runs_again_that_nobody_waits_for(batcher, engine):
    """A batch that takes too long is killed when its requests have been answered with 504."""
    engine.deaths = {"first": 1}
    item = batcher.submit(sample("first"))
    assert engine.entered.wait(PATIENCE)
    batcher.drop(item)
    engine.let.set()
    assert batcher.submit(sample(1)).future.result(PATIENCE).result == "result 1"
    assert engine.batches == [["first"], [1]] and item.future.cancelled()


def test_closing_finishes_what_was_submitted(batcher, engine):
    futures = [busy(batcher, engine), *(batcher.submit(sample(number)).future for number in range(4))]
    closing = threading.Thread(target=batcher.close, args=(PATIENCE,))
    closing.start()
    engine.let.set()
    closing.join(PATIENCE)
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(sample(9))


def test_the_end_of_the_server_fails_a_batch_as_one(batcher, engine, log):
    refused = Refused(503, "the server is about to end")

    def run(samples):
        raise refused

    batcher.run = run
    with batcher.condition:
        futures = [batcher.submit(sample(number)).future for number in range(2)]
    assert [future.exception(PATIENCE) for future in futures] == [refused, refused]
    assert "one by one" not in log.text
