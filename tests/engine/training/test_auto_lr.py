"""The learning rate follows the images per update."""

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.trainer import Trainer
from ppdet.utils.errors import ConfigError


@pytest.fixture
def tuned(tiny):
    """The tiny configuration (batch 2, learning rate 0.01), said to be tuned for 8 images."""
    tiny.write_text(tiny.read_text() + "auto_lr: {base_batch_size: 8}\n")
    return tiny


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ([], 0.0025),
        (["TrainReader.batch_size=4"], 0.005),
        (["TrainReader.batch_size=4", "accumulate_steps=2"], 0.01),
        (["auto_lr.base_batch_size=2"], 0.01),
        (["auto_lr=null"], 0.01),
        (["LearningRate.base_lr=0.02"], 0.02),
    ],
)
def test_rate_of_a_run(tuned, log, options, rate):
    trainer = Trainer(load_config(tuned, ["LearningRate.schedulers=[]", *options]))
    assert trainer.optimizer.get_lr() == pytest.approx(rate)
    lines = [r.getMessage() for r in log.records if "auto_lr" in r.getMessage()]
    if rate in (0.0025, 0.005):
        images = 2 if rate == 0.0025 else 4
        assert lines == [
            f"learning rate: {rate:g} for {images} images per step, from 0.01 for 8 (auto_lr; "
            "a LearningRate.base_lr of your own stays as it is)"
        ]
    elif rate == 0.02:  # eight times what would follow
        assert len(lines) == 1 and "-o: LearningRate.base_lr 0.02 is 8 times the rate that 2 images" in lines[0]
    else:
        assert not lines


def test_no_warning_near_the_scaled_rate(tuned, log):
    for rate in (0.0009, 0.009):
        Trainer(load_config(tuned, [f"LearningRate.base_lr={rate}"]))
    assert "auto_lr" not in log.text


def test_the_warm_up_leads_to_the_scaled_rate(tuned):
    trainer = Trainer(load_config(tuned))
    assert [trainer.schedule.rate(step, 4) for step in (0, 2)] == pytest.approx([0.00025, 0.0025])


def test_files_without_it_are_as_they_were(tiny):
    trainer = Trainer(load_config(tiny, ["LearningRate.schedulers=[]", "TrainReader.batch_size=4"]))
    assert trainer.optimizer.get_lr() == 0.01


def test_a_batch_of_nothing_is_refused(tuned):
    with pytest.raises(ConfigError, match=r"-o: auto_lr\.base_batch_size: expected at least 1, got 0"):
        load_config(tuned, ["auto_lr.base_batch_size=0"])
