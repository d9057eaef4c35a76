import math

import pytest

from ppdet.optimizer.learning_rate import (
    ConstantWarmup,
    CosineDecay,
    ExpWarmup,
    LearningRate,
    LinearWarmup,
    PiecewiseDecay,
)


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


def test_schedule_in_iterations():
    """90,000 iterations: a third of the rate for 500, then the rate, a tenth of it after 60,000 and 80,000."""
    decay = PiecewiseDecay(milestones=[60000, 80000], unit="iteration")
    rate = LearningRate(base_lr=0.01, schedulers=[decay, ConstantWarmup(steps=500, start_factor=1 / 3)])

    def published(step):
        return 0.01 * 0.1 ** ((step >= 60000) + (step >= 80000)) * (1 / 3 if step < 500 else 1)

    steps = [0, 1, 250, 499, 500, 501, 7330, 59999, 60000, 79999, 80000, 89999]
    for per_epoch in (62, 7330):  # however long an epoch is
        assert [rate.rate(step, per_epoch) for step in steps] == pytest.approx([published(step) for step in steps])


def test_iterations_of_several_steps():
    """Steps of 2 images for iterations of 16: milestones come after as many images, the warm-up after as many steps."""
    decay = PiecewiseDecay(milestones=[60, 80], unit="iteration")
    rate = LearningRate(base_lr=1.0, schedulers=[decay, ConstantWarmup(steps=5, start_factor=0.5)])
    rates = [rate.rate(step, 7, 16 / 2) for step in (4, 5, 479, 480, 639, 640)]
    assert rates == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01])
    scheduler = rate.scheduler(7, 16 / 2)
    scheduler.step(480)
    assert scheduler() == pytest.approx(0.1)
    in_epochs = LearningRate(base_lr=1.0, schedulers=[PiecewiseDecay(milestones=[60])])
    assert [in_epochs.rate(step, 7, 16 / 2) for step in (419, 420)] == pytest.approx([1, 0.1])


def test_constant_warm_up_in_epochs():
    rate = LearningRate(base_lr=1.0, schedulers=[ConstantWarmup(epochs=2, start_factor=0.25)])
    assert [rate.rate(step, 10) for step in (0, 19, 20)] == [0.25, 0.25, 1.0]


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


def test_shares_of_the_run_follow_its_length():
    """70% and 90% of 50 and of 2,000 steps, a warm-up of 10%, whatever an epoch has; and nothing else changes."""
    for run in (50, 2000):
        decay, warmup = PiecewiseDecay(milestones=["70%", "90%"]), ConstantWarmup(steps="10%", start_factor=0.5)
        schedule = LearningRate(base_lr=1.0, schedulers=[decay, warmup])
        scheduler = schedule.scheduler(7, 1.0, run)
        expected = [(0, 0.5), (run // 10 - 1, 0.5), (run // 10, 1), (run * 7 // 10 - 1, 1), (run * 7 // 10, 0.1)]
        expected += [(run * 9 // 10 - 1, 0.1), (run * 9 // 10, 0.01), (run - 1, 0.01)]
        assert [schedule.rate(step, 7, 1.0, run) for step, _ in expected] == pytest.approx([r for _, r in expected])
        for step, rate in expected:
            scheduler.step(step)
            assert scheduler() == pytest.approx(rate)


def test_cosine_and_the_other_warm_ups_in_shares():
    cosine = LearningRate(base_lr=1.0, schedulers=[CosineDecay(max_epochs="80%"), ExpWarmup(steps="20%")])
    numbers = LearningRate(base_lr=1.0, schedulers=[CosineDecay(max_epochs=8), ExpWarmup(steps=20)])
    assert [cosine.rate(step, 10, 1.0, 100) for step in range(100)] == [numbers.rate(step, 10) for step in range(100)]
    linear = LearningRate(base_lr=1.0, schedulers=[LinearWarmup(steps="12.5%", start_factor=0)])
    assert [linear.rate(step, 10, 1.0, 80) for step in (0, 5, 10)] == [0, 0.5, 1]
    with pytest.raises(ValueError, match="of the run: the number of steps of the run is unknown"):
        linear.rate(0, 10)


def test_scheduler_follows_the_function():
    rate = LearningRate(base_lr=0.01, schedulers=[PiecewiseDecay(milestones=[1, 2]), LinearWarmup(steps=3)])
    scheduler = rate.scheduler(5)
    for step in range(15):
        assert scheduler() == pytest.approx(rate.rate(step, 5))
        scheduler.step()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LearningRate(base_lr=0.0), "base_lr is 0.0; it must be above 0 and below inf"),
        (lambda: LearningRate(base_lr=math.nan), "base_lr is nan; it must be above 0 and below inf"),
        (lambda: LearningRate(base_lr=math.inf), "base_lr is inf; it must be above 0 and below inf"),
        (lambda: LinearWarmup(steps=-3), "LinearWarmup.steps is -3; it must be at least 0"),
        (lambda: ConstantWarmup(steps=-3), "ConstantWarmup.steps is -3; it must be at least 0"),
        (lambda: LearningRate(schedulers=[LinearWarmup(), ExpWarmup()]), "one decay and one warm-up"),
        (
            lambda: LearningRate(schedulers=[PiecewiseDecay(), CosineDecay(max_epochs=3)]),
            "one decay and one warm-up, not more",
        ),
        (lambda: PiecewiseDecay(milestones=[11, 8]), r"milestones \[11, 8\] do not ascend"),
        (lambda: PiecewiseDecay(milestones=["90%", "70%"]), "do not ascend"),
        (lambda: PiecewiseDecay(milestones=[8, "90%"]), "give all as shares of the run, or none"),
        (
            lambda: PiecewiseDecay(milestones=["8"]),
            "milestones is '8'; it must be a number, or a share of the run from",
        ),
        (lambda: CosineDecay(max_epochs="101%"), "max_epochs is '101%'; it must be a number, or a share of the run"),
        (
            lambda: CosineDecay(max_epochs="0%"),
            "max_epochs is '0%'; it must be a number, or a share of the run above 0%",
        ),
        (lambda: LinearWarmup(steps="-5%"), "LinearWarmup.steps is '-5%'; it must be a number, or a share of the run"),
        (lambda: PiecewiseDecay(gamma=[0.1], milestones=[8, 11]), "gamma has 1 values for 2 milestones"),
    ],
)
def test_nonsense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
