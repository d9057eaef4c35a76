"""Between two lines of the log a training run reads nothing from its device: nothing waits for it.

The branches for devices run here on the CPU, which is asked for the type of the current device and answers for a GPU.
"""

import paddle
import pytest

from ppdet.acceptance.tensor_reads import record_reads
from ppdet.core.workspace import load_config
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.loss_scale import LossScale
from ppdet.utils import device

LONG = ["log_iter=5", "use_onednn=false", "auto_lr=null"]


class Watch(Hook):
    """Watches all but the steps with a line of the log, the last of an epoch, and the first two, which are drawn."""

    def __init__(self, reads):
        self.reads, self.steps = reads, 0

    def before_step(self, trainer):
        if trainer.is_log_step or trainer.ends_epoch:
            self.reads.watching = False
        self.steps += self.reads.watching

    def after_step(self, trainer):
        self.reads.watching = trainer.iteration >= 2 and trainer.step + 1 < trainer.steps_of_epoch

    def close(self, trainer):
        self.reads.watching = False


@pytest.fixture
def behind_host(monkeypatch):
    monkeypatch.setattr(device, "name", lambda: "gpu:0")
    monkeypatch.setattr(device, "capability", lambda: (8, 0))
    monkeypatch.setattr(device, "peak_memory", lambda: 1 << 20)
    monkeypatch.setattr(device, "synchronize", lambda: None)
    monkeypatch.setattr(device, "thread_initializer", lambda: lambda: None)
    assert device.runs_behind_host()


def watched(path, *options, scale=None):
    """Where a run reads between lines of its log, and in how many steps that was looked at."""
    with record_reads() as reads:
        watch = Watch(reads)
        trainer = Trainer(load_config(path, list(options)), hooks=[watch])
        if scale:
            trainer.precision.loss_scale = LossScale(scale)
        trainer.train()
    return reads.places, watch.steps


ADAMW = "OptimizerBuilder={optimizer: {name: AdamW, type: AdamW, weight_decay: 0.01}}"


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        (["use_ema=true", "ema_decay=0.9"], 2.0**10),
        (["OptimizerBuilder=null", ADAMW], None),
        (["accumulate_steps=2", "epoch=3"], 2.0**10),
    ],
    ids=["clipped, average, loss scale", "AdamW", "two batches added up"],
)
def test_training_reads_nothing_between_lines_of_the_log(tiny, behind_host, options, scale):
    places, steps = watched(tiny, *LONG, "epoch=1", "TrainReader.batch_size=1", *options, scale=scale)
    assert steps >= 3
    assert places == []


def test_semi_supervised_training_reads_nothing_between_lines_of_the_log(tiny_semi, behind_host):
    sizes = ["SemiTrainReader.sup_batch_size=1", "SemiTrainReader.unsup_batch_size=1"]
    places, steps = watched(tiny_semi, *LONG, "epoch=1", *sizes)
    assert steps >= 3
    assert places == []


def test_a_cpu_looks_at_every_step(tiny):
    """The watch does notice: where nothing runs behind the host, the guard looks before every update."""
    places, steps = watched(tiny, *LONG, "epoch=1", "TrainReader.batch_size=1")
    assert steps >= 3
    assert sum("guard.py" in place for place in places) >= steps


@pytest.mark.parametrize(
    "read",
    [
        *(bool, float, int, str, lambda t: t.tolist(), lambda t: t.item(), lambda t: t.numpy()),
        *(lambda t: [1, 2, 3][t], lambda t: paddle.arange(4)[:t], lambda t: paddle.arange(4)[paddle.arange(4) > t]),
        *(lambda t: paddle.full([t], 1.0), lambda t: paddle.ones([2]).clip(min=t.astype("float32"))),
        lambda t: paddle.nonzero(t.reshape([1])),
    ],
)
def test_ways_to_read_a_tensor(read):
    tensor = paddle.to_tensor(2)
    with record_reads() as reads:
        reads.watching = True
        read(tensor)
        reads.watching = False
    assert reads.places


def test_what_reads_no_tensor():
    tensor = paddle.to_tensor([1.0, 2.0])
    with record_reads() as reads:
        reads.watching = True
        result = paddle.where(tensor > 1, tensor[0:1] * 2, tensor).sum() + len(tensor) + tensor.shape[0]
        paddle.full([2], 1.0).clip(0.0, 1.0).topk(1)
        reads.watching = False
    assert reads.places == [] and float(result) == 7.0
