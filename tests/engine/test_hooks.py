"""Reads from the device by the hooks of an ordinary run."""

import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.loss_scale import LossScale

READS = ("numpy", "item", "tolist", "__float__", "__int__", "__bool__", "__array__")


class Steps(Hook):
    """Begins a new list of reads with every step."""

    def __init__(self, reads):
        self.reads = reads

    def before_step(self, trainer):
        self.reads.append([])


@pytest.mark.parametrize("scaled", [False, True])
def test_nothing_is_read_from_the_device_between_log_lines(tiny, monkeypatch, answer_for_device, scaled):
    """A value that travels to the host makes it wait for everything that was asked of the device before."""
    reads = [[]]
    for name in READS:
        original = getattr(paddle.Tensor, name)

        def counted(tensor, *arguments, original=original, name=name, **options):
            reads[-1].append(name)
            return original(tensor, *arguments, **options)

        monkeypatch.setattr(paddle.Tensor, name, counted)
    cfg = load_config(
        str(tiny), ["log_iter=3", "epoch=1", "TrainReader.batch_size=1", "use_ema=true", "use_onednn=false"]
    )
    answer_for_device()
    trainer = Trainer(cfg, hooks=[Steps(reads)])
    trainer.precision.loss_scale = LossScale(2.0**10) if scaled else None  # as in float16
    trainer.train()
    steps = reads[1:]
    assert len(steps) == 8
    read_in = [bool(step) for step in steps]
    # Log lines after the first step, every third after it, and the last one; and once the picture of the second batch.
    assert read_in == [True, True, False, True, False, False, True, True]
    assert set(steps[1]) == {"numpy"}
