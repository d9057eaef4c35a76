"""The warning of DenseTeacher that selects too little."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppdet.engine.hooks import SelectionHook
from ppdet.engine.hooks.location_warnings import SELECTION_STEPS as STEPS


@pytest.mark.parametrize(("ratio", "warned"), [(0.01, True), (0.049, True), (0.051, False)])
def test_too_few(log, ratio, warned):
    """5 of 100 locations are positive: 3 at one level, 2 at another."""
    hook = SelectionHook(ratio)
    batch = {"target_labels": paddle.to_tensor(np.zeros((2, 50), np.int32))}
    trainer = SimpleNamespace(losses={"positives": paddle.to_tensor([3.0, 2.0])}, batches=[batch])
    for _ in range(STEPS - 1):
        hook.after_step(trainer)
    assert not log.messages
    for _ in range(STEPS):
        hook.after_step(trainer)
    assert len(log.messages) == warned
    if warned:
        assert "5.0 % of the locations of labeled images are positive" in log.text and "0.10 would be safe" in log.text
