import pytest
from paddle import nn

from ppdet.engine.distributed import collectives
from ppdet.engine.training.guard import StepGuard
from ppdet.modeling.layers import make_norm
from ppdet.utils import device
from ppdet.utils.errors import ConfigError
from ppdet.utils.process.stop import Stopped


def test_batch_norms_that_were_asked_for_are_synchronised():
    """In place: names, parameters and running statistics are those that optimizer and checkpoints know."""
    model = nn.Sequential(
        nn.Sequential(make_norm("sync_bn", 8)), make_norm("bn", 8), make_norm("sync_bn", 8, frozen=True)
    )
    before = model.state_dict()
    collectives.synchronize_batch_norms(model)
    assert [type(model[0][0]), type(model[1]), type(model[2])] == [nn.SyncBatchNorm, nn.BatchNorm2D, nn.BatchNorm2D]
    assert model.state_dict().keys() == before.keys()
    assert all(value is before[name] for name, value in model.state_dict().items())


def test_statistics_of_synchronised_batch_norms_are_guarded(tmp_path):
    model = nn.Sequential(nn.SyncBatchNorm(4), nn.BatchNorm2D(4))
    guard = StepGuard(model, None, tmp_path, max_bad_steps=1, takes_back=False)
    assert len(guard.statistics) == 4


@pytest.mark.parametrize(("kind", "has_kernel"), [("gpu", True), ("cpu", False), ("npu", True), ("npu", False)])
def test_batch_norms_are_synchronised_where_paddle_can(monkeypatch, log, kind, has_kernel):
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives, "wait_for_all", lambda: None)
    monkeypatch.setattr(collectives.paddle, "DataParallel", lambda model, find_unused_parameters: (model, "parallel"))
    monkeypatch.setattr(device, "kind", lambda: kind)
    asked = []
    monkeypatch.setattr(device, "has_kernel", lambda operator: asked.append(operator) or has_kernel)
    model = nn.Sequential(make_norm("sync_bn", 8), make_norm("bn", 8))
    assert collectives.wrap(model) == (model, "parallel") and asked == ["sync_batch_norm"]
    assert type(model[0]) is (nn.SyncBatchNorm if has_kernel else nn.BatchNorm2D) and type(model[1]) is nn.BatchNorm2D
    told = f"sync_bn: Paddle has it for GPUs, not for {kind}: every process normalises by its own images"
    assert log.messages == ([] if has_kernel else [told])
    collectives.wrap(nn.Sequential(make_norm("bn", 8)))
    assert len(asked) == 1 and len(log.messages) == (not has_kernel)


def test_one_process_joins_nothing(monkeypatch):
    monkeypatch.delenv("PADDLE_TRAINERS_NUM", raising=False)
    layer = nn.Linear(2, 2)
    with collectives.joined(fleet=True):
        assert collectives.wrap(layer, fleet=True) is layer
        assert collectives.gather(3) == [3] and collectives.largest(4) == 4
        assert collectives.from_rank_0(lambda: 5, ValueError) == 5
        collectives.wait_for_all()


def test_a_fleet_that_cannot_start_is_a_line(monkeypatch):
    def init(**options):
        raise AttributeError("label")

    monkeypatch.setattr(collectives.paddle_fleet, "init", init)
    with pytest.raises(ConfigError, match="leave --fleet out"):
        collectives.start_fleet(False)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConfigError("set it\n to 3"), "set it to 3"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (KeyError("name"), "KeyError: 'name'"),
        (Stopped(15), "exit code 143"),
    ],
)
def test_what_the_others_are_told(error, line):
    assert collectives.describe(error) == line
