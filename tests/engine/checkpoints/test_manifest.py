"""Counts of a training state agree: all epochs are complete, except a last one that max_iters ended."""

import json
import math

import pytest

from ppdet.engine.checkpoints.manifest import (
    Manifest,
    TrainingState,
    is_state,
    json_sha256,
    read_manifest,
    write_manifest,
)

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


def test_a_value_that_is_no_number_is_null(tmp_path):
    state = {**STATE, "best_ap": math.nan, "history": [[1, math.nan], [2, -0.5]]}
    files = {suffix: {"bytes": 1, "sha256": "x"} for suffix in (".pdopt", ".pdparams")}
    write_manifest(tmp_path / "1", Manifest("id", TrainingState(**state), files))
    content = json.loads((tmp_path / "1.json").read_text(), parse_constant=lambda name: name)
    assert (content["state"]["best_ap"], content["state"]["history"]) == (None, [[1, None], [2, -0.5]])
    found = read_manifest(tmp_path / "1.json").state
    assert found.best_ap is None and math.isnan(found.history[0][1]) and found.history[1] == [2, -0.5]
    # Earlier versions could write NaN.
    content = {**content, "state": state}
    content.pop("sha256")
    (tmp_path / "1.json").write_text(json.dumps({**content, "sha256": json_sha256(content)}))
    again = read_manifest(tmp_path / "1.json").state
    assert again.best_ap is None and math.isnan(again.history[0][1])
    for value in (math.inf, True, "1"):
        assert not is_state({**STATE, "best_ap": value}) and not is_state({**STATE, "history": [[1, value]]})
