"""Files of a run's folder are replaced by pipes, folders, huge or invalid files, or values of other types."""

import contextlib
import copy
import json
import os
import random
import shutil

import paddle
import pytest
from paddle import nn

from ppdet.engine.checkpoints.class_names import classes_of_checkpoint
from ppdet.engine.checkpoints.manifest import (
    TrainingState,
    json_sha256,
    read_manifest,
    read_sealed,
    read_verified,
    write_sealed,
)
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.hooks.history import is_line, read_history
from ppdet.engine.runs import analysis
from ppdet.engine.runs.run_folder import RunFolder

NUMBERS = {"AP": 0.5, "AP50": 0.6, "AP75": 0.4}
STATE = TrainingState(1, 0, 5, 5, 0.5, True, [[1, 0.5]], 0, {}, 0)
NO_JSON = ["", "null", "[]", "7", '"text"', "{}", '{"sha256": 1}', "[" * 200_000, "9" * 5000, "\0", "\ud800"]
LINE = {"time": "2026-11-28T15:00:00", "iteration": 5, "steps_per_epoch": 5, "epoch": 1, "step": 5}
REPORT = {"event": "report", "learning_rate": 0.1, "losses": {"loss": None}, "max_mem_mib": {"host": 5}, **LINE}
REPORT.update(seconds_per_step=0.1, images_per_second=3.0, data_share=0.0)
EVALUATION = {"event": "evaluation", "numbers": NUMBERS, **LINE}


@pytest.fixture
def folder(tmp_path):
    """A run's folder with the checkpoints 0 and 1."""
    model = nn.Linear(2, 2)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    run = RunFolder(tmp_path, keep_every=1)
    run.begin(None, go_on=False)
    run.save("0", STATE, model, optimizer, None)
    run.save("1", STATE._replace(epoch=2, iteration=10), model, optimizer, None)
    return tmp_path


def newest(folder):
    return RunFolder(folder, keep_every=1).newest()


@pytest.mark.parametrize(
    "changes",
    [
        {"id": 5},
        {"id": None},
        {"id": ["a"]},
        {"resumed_from": 5},
        {"resumed_from": ["/"]},
        {"resumed_from": {"a": 1}},
        {"resumed_from": "a\0b"},
        {"resumed_from": "/"},
        {"resumed_from": ".."},
        {"resumed_from": True},
        {"pretrained_from": "a\0b"},
        {"pretrained_from": 7},
        {"resumed_files": 5},
    ],
    ids=str,
)
def test_a_run_file_of_other_types_is_damaged(folder, changes, log):
    path = folder / "run.json"
    write_sealed(path, {**read_sealed(path), **changes})
    assert newest(folder) == folder / "1"
    assert "run.json is damaged: using the run id of the newest checkpoint" in log.text


@pytest.mark.parametrize("text", NO_JSON, ids=lambda text: text[:12])
def test_a_run_file_that_is_something_else_is_damaged(folder, text, log):
    (folder / "run.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert newest(folder) == folder / "1"
    assert "run.json is damaged" in log.text


def test_a_pipe_or_a_large_file_is_damaged(folder, log):
    """Reading the one would never end, the other would take all memory."""
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    (folder / "1.json").unlink()
    with open(folder / "1.json", "wb") as stream:
        stream.truncate(2**40)  # takes no room
    (folder / "2.json").symlink_to("nowhere")
    (folder / "3.json").mkdir()
    assert newest(folder) == folder / "0"
    assert "run.json is damaged" in log.text and "1.json: damaged" in log.text


def test_a_start_that_is_gone_is_named(tmp_path):
    RunFolder(tmp_path, keep_every=1).begin(tmp_path / "elsewhere" / "3", go_on=False)
    with pytest.raises(CheckpointError, match=r"run\.json: this run was resumed from .*elsewhere/3, which is gone"):
        newest(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"state": None},
        {"state": 5},
        {"state": {}},
        *({"state": {**STATE._asdict(), name: value}} for name in ("epoch", "iteration", "images", "steps_per_epoch")
          for value in (None, "1", -1, 1.5, True, 10**30)),
        {"state": {**STATE._asdict(), "epoch": 9}},
        {"state": {**STATE._asdict(), "history": [[1]]}},
        {"state": {**STATE._asdict(), "history": [["1", None]]}},
        {"state": {**STATE._asdict(), "best_ap": float("inf")}},
        {"state": {**STATE._asdict(), "best_ap": "0.5"}},
        {"state": {**STATE._asdict(), "loss_scale": {"scale": "1"}}},
        {"state": {**STATE._asdict(), "evaluated": None}},
        {"state": {**STATE._asdict(), "more": 1}},
        {"run": None},
        {"run": ["a"]},
        {"files": None},
        {"files": {}},
        {"files": {"/../../x": {"bytes": 1, "sha256": ""}}},
        {"files": {".pdopt": None, ".pdparams": 5}},
        {"files": {".pdopt": {"bytes": "1", "sha256": ""}, ".pdparams": {"bytes": 1, "sha256": ""}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_of_other_types_is_passed_over(folder, changes, log):
    path = folder / "1.json"
    write_sealed(path, {**read_sealed(path), **changes})
    with pytest.raises(CheckpointError, match=r"1(\.json)?: (not a manifest|written by another|weights)"):
        read_verified(folder / "1")
    assert newest(folder) == folder / "0"
    assert "skipping damaged checkpoint" in log.text or "more" in changes.get("state", {})


def test_what_a_run_writes_is_taken(folder):
    assert read_manifest(folder / "1.json").state.epoch == 2
    assert is_line(REPORT) and is_line(EVALUATION)


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000,
        "null",
        "7",
        *(json.dumps({**REPORT, **changes}) for changes in (
            {"event": "other"}, {"event": ["report"]}, {"iteration": "5"}, {"iteration": -1}, {"steps_per_epoch": 0},
            {"epoch": None}, {"epoch": [1]}, {"step": 1.5}, {"losses": []}, {"losses": {"loss": "1"}},
            {"max_mem_mib": None}, {"learning_rate": {}}, {"data_share": True},
        )),
        *(json.dumps({**EVALUATION, **changes}) for changes in (
            {"numbers": None}, {"numbers": []}, {"numbers": {}}, {"numbers": {**NUMBERS, "AP": None}},
            {"numbers": {**NUMBERS, "APs": "0.1"}}, {"undetected": "car"}, {"undetected": [["car"]]},
        )),
        json.dumps({"event": "pseudo_labels", "figures": 5, **LINE}),
    ],
    ids=lambda line: line[:60],
)  # fmt: skip
def test_lines_of_history_of_other_types_are_left_out(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join([json.dumps(REPORT), line, json.dumps(EVALUATION)]))
    assert read_history(path) == [REPORT, EVALUATION]


@pytest.mark.parametrize(
    "changes", [{"epoch": "1"}, {"weights": 5}, {"sha256": None}, {"configuration": []}, {"numbers": [1]}], ids=str
)
def test_evaluations_of_other_types_are_left_out(tmp_path, changes):
    line = {"epoch": 1, "weights": "0.pdparams", "sha256": "b", "configuration": "c", "numbers": NUMBERS}
    rows = [line, {**line, **changes}, 5]
    (tmp_path / "evaluations.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n" + "[" * 200_000)
    assert analysis.read_evaluations(tmp_path) == [line]


VALUES = [
    *(None, True, 0, -1, 10**6, 2**53, 2**63, 10**400, 1.5, float("nan"), float("inf"), -0.0),
    *("..", "/", ".", "../outside/0", "/etc/passwd", "0\0", "~", "a" * 5000, "\x1b[2J", "1", "model_final", ""),
    *([], {}, [[]], [[1, 2, 3]], [[10**6, 0.5]] * 3),
    *({"a": {}}, {"../../outside/0": {"bytes": 1, "sha256": ""}}, {".pdopt": None}, {".json": {}}),
]


def places(content, at=()):
    """The path of every value in JSON content, at any depth."""
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield (*at, key)
        yield from places(content[key], (*at, key))


def test_any_value_at_any_place_with_a_seal_that_matches(folder):
    """It is taken, or passed over, or one line; nothing outside the folder is written or removed."""
    outside = folder.parent / f"{folder.name}_outside"
    shutil.copytree(folder, outside)
    before = {path: path.read_bytes() for path in outside.iterdir()}
    random_choice = random.Random(5)
    for number in range(150):
        name = random_choice.choice(["run.json", "0.json", "1.json"])
        honest = (folder / name).read_bytes()
        content = read_sealed(folder / name)
        *above, last = random_choice.choice(list(places(content)))
        parent = content
        for key in above:
            parent = parent[key]
        parent[last] = copy.deepcopy(random_choice.choice(VALUES))
        if number % 5 == 0:
            del parent[last]
        (folder / name).write_text(json.dumps({**content, "sha256": json_sha256(content)}))
        run = RunFolder(folder, keep_every=1)
        with contextlib.suppress(CheckpointError):
            found = run.newest()
            assert found is None or found.parent == folder or content.get("resumed_from")
        for prefix in (folder / "0", folder / "1"):
            with contextlib.suppress(CheckpointError):
                read_verified(prefix)
            classes_of_checkpoint(prefix)
        copied = RunFolder(folder, keep_every=0)
        copied.id = run.id
        copied._rename_previous(folder / "1", 11)
        for left in folder.glob("snapshot_*"):
            left.unlink()
        (folder / name).write_bytes(honest)
    assert {path: path.read_bytes() for path in outside.iterdir()} == before
    assert {path.name for path in folder.iterdir()} == {path.name for path in before}
