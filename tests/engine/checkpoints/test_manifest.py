"""Counts of a training state agree: all epochs are complete, except a last one that max_iters ended."""

import pytest

from ppdet.engine.checkpoints.manifest import is_state

STATE = {
    "epoch": 2,
    "images": 0,
    "iteration": 6,
    "steps_per_epoch": 3,
    "best_ap": 0.5,
    "evaluated": True,
    "history": [[1, 0.5]],
    "ema_step": 6,
    "loss_scale": {},
    "seed": 0,
}


@pytest.mark.parametrize(
    ("epoch", "steps", "least"),
    [(2, 3, 4), (1, 3, 1), (2, 1, 2), (5, 1, 5), (0, 3, 0), (2, 2, 3)],
)
def test_iterations_fit_the_epochs(epoch, steps, least):
    """All epochs but the last are complete, and the last one has at least one iteration."""
    for iteration in range(epoch * steps + 3):
        state = {**STATE, "epoch": epoch, "steps_per_epoch": steps, "iteration": iteration}
        assert is_state(state) == (iteration >= least), iteration
