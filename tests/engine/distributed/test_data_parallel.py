"""Batch norms that are synchronized over ranks, and those that cannot be."""

import pytest
from paddle import nn

from ppdet.engine.distributed import collectives, data_parallel
from ppdet.engine.training.guard import StepGuard
from ppdet.modeling.layers import make_norm
from ppdet.utils import device


def test_batch_norms_that_were_asked_for_are_synchronized():
    """In place: names, parameters and running statistics stay the objects that optimizer and checkpoints know."""
    model = nn.Sequential(
        nn.Sequential(make_norm("sync_bn", 8)), make_norm("bn", 8), make_norm("sync_bn", 8, frozen=True)
    )
    before = model.state_dict()
    data_parallel.synchronize_batch_norms(model)
    assert [type(model[0][0]), type(model[1]), type(model[2])] == [nn.SyncBatchNorm, nn.BatchNorm2D, nn.BatchNorm2D]
    assert model.state_dict().keys() == before.keys()
    assert all(value is before[name] for name, value in model.state_dict().items())


def test_statistics_of_synchronized_batch_norms_are_guarded(tmp_path):
    model = nn.Sequential(nn.SyncBatchNorm(4), nn.BatchNorm2D(4))
    guard = StepGuard(model, None, tmp_path, max_bad_steps=1, rolls_back=False)
    assert len(guard.statistics) == 4


@pytest.mark.parametrize(("kind", "has_kernel"), [("gpu", True), ("cpu", False), ("npu", True), ("npu", False)])
def test_batch_norms_are_synchronized_where_paddle_can(monkeypatch, log, kind, has_kernel):
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives, "wait_for_all", lambda: None)
    monkeypatch.setattr(data_parallel.paddle, "DataParallel", lambda model, find_unused_parameters: (model, "parallel"))
    monkeypatch.setattr(device, "device_type", lambda: kind)
    asked = []
    monkeypatch.setattr(device, "has_kernel", lambda operator: asked.append(operator) or has_kernel)
    model = nn.Sequential(make_norm("sync_bn", 8), make_norm("bn", 8))
    assert data_parallel.wrap(model) == (model, "parallel") and asked == ["sync_batch_norm"]
    assert type(model[0]) is (nn.SyncBatchNorm if has_kernel else nn.BatchNorm2D) and type(model[1]) is nn.BatchNorm2D
    told = f"sync_bn: Paddle has it for GPUs, not for {kind}: every process normalizes by its own images"
    assert log.messages == ([] if has_kernel else [told])
    data_parallel.wrap(nn.Sequential(make_norm("bn", 8)))
    assert len(asked) == 1 and len(log.messages) == (not has_kernel)
