import math

import pytest

from ppdet.optimizer import CosineDecay, ExpWarmup, LearningRate, LinearWarmup, PiecewiseDecay


def test_published_schedule():
    """1x: warm-up from a third over 500 steps, a tenth after epochs 8 and 11."""
    rate = LearningRate(base_lr=0.01, schedulers=[PiecewiseDecay(milestones=[8, 11]), LinearWarmup()])
    per_epoch = 7330
    assert rate.rate(0, per_epoch) == pytest.approx(0.01 / 3)
    assert rate.rate(250, per_epoch) == pytest.approx(0.01 * (1 / 3 + 2 / 3 / 2))
    assert rate.rate(500, per_epoch) == pytest.approx(0.01)
    assert rate.rate(8 * per_epoch - 1, per_epoch) == pytest.approx(0.01)
    assert rate.rate(8 * per_epoch, per_epoch) == pytest.approx(0.001)
    assert rate.rate(11 * per_epoch, per_epoch) == pytest.approx(0.0001)


def test_list_of_gammas_are_factors_of_the_base_rate():
    rate = LearningRate(base_lr=1.0, schedulers=[PiecewiseDecay(gamma=[0.5, 0.2], milestones=[1, 2])])
    assert [rate.rate(10 * epoch, 10) for epoch in range(4)] == [1.0, 0.5, 0.2, 0.2]


def test_cosine_from_the_end_of_the_warm_up():
    rate = LearningRate(
        base_lr=0.02, schedulers=[CosineDecay(max_epochs=4, min_lr_ratio=0.1), LinearWarmup(epochs=1, start_factor=0.0)]
    )
    assert rate.rate(5, 10) == pytest.approx(0.01)
    assert rate.rate(10, 10) == pytest.approx(0.02)
    assert rate.rate(25, 10) == pytest.approx(0.02 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert rate.rate(40, 10) == rate.rate(99, 10) == pytest.approx(0.002)


def test_exponential_warm_up_and_switching_it_off():
    rate = LearningRate(base_lr=1.0, schedulers=[ExpWarmup(steps=4)])
    assert [rate.rate(i, 10) for i in range(5)] == [0, 1 / 16, 1 / 4, 9 / 16, 1]
    off = LearningRate(base_lr=1.0, schedulers=[PiecewiseDecay(use_warmup=False), LinearWarmup()])
    assert off.rate(0, 10) == 1.0


def test_scheduler_follows_the_function():
    rate = LearningRate(base_lr=0.01, schedulers=[PiecewiseDecay(milestones=[1, 2]), LinearWarmup(steps=3)])
    scheduler = rate.scheduler(5)
    for step in range(15):
        assert scheduler() == pytest.approx(rate.rate(step, 5))
        scheduler.step()


@pytest.mark.parametrize(
    "build",
    [
        lambda: LearningRate(base_lr=0.0),
        lambda: LearningRate(base_lr=math.nan),
        lambda: LinearWarmup(steps=-3),
        lambda: LearningRate(schedulers=[LinearWarmup(), ExpWarmup()]),
        lambda: PiecewiseDecay(milestones=[11, 8]),
        lambda: PiecewiseDecay(gamma=[0.1], milestones=[8, 11]),
    ],
)
def test_nonsense_is_refused(build):
    with pytest.raises(ValueError):
        build()
