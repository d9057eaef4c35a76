"""Tables and curves of runs, from histories and from checkpoints."""

import json
from pathlib import Path

import cv2
import pytest
from commands import execute

from ppdet.core.workspace import load_config
from ppdet.engine.runs.analysis import (
    EVALUATIONS,
    AnalysisError,
    Run,
    best_epoch,
    draw_curves,
    evaluate_checkpoints,
    names_of,
    read_runs,
    table,
    weights_by_epoch,
)


def numbers(ap):
    return {"AP": ap, "AP50": ap + 0.2, "AP75": ap - 0.1}


RUNS = [
    Run("short", {1: numbers(0.5), 2: numbers(0.25)}, []),
    Run("a_name_that_is_longer_than_columns", {2: numbers(0.125), 4: numbers(0.375)}, []),
    Run("blind", {}, []),
]


def test_table():
    lines = table(RUNS).splitlines()
    assert lines[0].split(" |") == ["epoch", "short".rjust(24), "…is_longer_than_columns".rjust(24), "blind".rjust(24)]
    rows = {int(line.split(" |")[0]): [cell.split() for cell in line.split(" |")[1:]] for line in lines[3:6]}
    nothing = ["-"] * 3
    assert rows == {
        1: [["0.500", "0.700", "0.400"], nothing, nothing],
        2: [["0.250", "0.450", "0.150"], ["0.125", "0.325", "0.025"], nothing],
        4: [nothing, ["0.375", "0.575", "0.275"], nothing],
    }
    assert len({len(line) for line in lines[:6]}) == 1
    assert lines[6:] == [
        "short: best AP 0.500 after epoch 1",
        "a_name_that_is_longer_than_columns: best AP 0.375 after epoch 4",
        "blind: no evaluations: train with --eval, or add --evaluate",
    ]


def test_table_of_pseudo_labels():
    figures = {0: {"fg_sum": 12.5, "recall": None}, 10: {"fg_sum": 20.0, "recall": 0.25}}
    lines = table([*RUNS, Run("semi", {}, [], figures)]).splitlines()
    assert [line.split() for line in lines[-4:]] == [
        ["pseudo-labels", "of", "semi:"],
        ["epoch", "fg_sum", "recall"],
        ["0", "12.500", "-"],
        ["10", "20.000", "0.250"],
    ]
    assert len({len(line) for line in lines[-3:]}) == 1


def test_of_equal_epochs_the_first_is_best():
    assert best_epoch(Run("x", {3: numbers(0.5), 2: numbers(0.5), 1: numbers(0.4)}, [])) == 2


def test_runs_of_one_name_are_told_apart(tmp_path):
    assert names_of([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]
    assert names_of([Path("a/x"), Path("b/x")]) == ["a/x", "b/x"]


def test_from_a_history(finished):
    (run,) = read_runs([finished.folder])
    witness = finished.witness
    assert run.name == "tiny"
    assert run.evaluations == {1: witness.evaluations[0][1], 2: witness.evaluations[1][1]}
    assert [line["learning_rate"] for line in run.reports] == [report["learning_rate"] for _, report in witness.reports]


def test_curves(finished, tmp_path):
    runs = read_runs([finished.folder])
    draw_curves(runs, tmp_path / "one.png")
    draw_curves([*runs, *RUNS], tmp_path / "more.png")
    one, more = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "more.png"))
    assert one.shape == more.shape and one.shape[1] > one.shape[0] > 300
    # A third of the picture for each curve, with lines in the first colors of matplotlib.
    blue, orange = (180, 119, 31), (14, 127, 255)
    for part in range(3):
        third = one[:, part * one.shape[1] // 3 : (part + 1) * one.shape[1] // 3]
        assert (third == blue).all(axis=2).sum() > 50
    assert not (one == orange).all(axis=2).any() and (more == orange).all(axis=2).any()


def test_checkpoints_by_epoch(finished, tmp_path):
    found = {epoch: path.name for epoch, path in weights_by_epoch(finished.folder, 12).items()}
    assert found == {1: "0.pdparams", 2: "model_final.pdparams"}
    # Another program's folder has no manifests.
    for name in ("10", "2", "model_final", "best_model", "snapshot_7"):
        (tmp_path / f"{name}.pdparams").touch()
    assert [(e, p.stem) for e, p in weights_by_epoch(tmp_path, 24).items()] == [
        (3, "2"),
        (11, "10"),
        (24, "model_final"),
    ]
    assert [(e, p.stem) for e, p in weights_by_epoch(tmp_path, 3).items()] == [
        (3, "2"),
        (11, "10"),
        (12, "model_final"),
    ]


def test_from_checkpoints(finished, tmp_path, log):
    options, folder = finished.copy_to(tmp_path / "output")
    (folder / "history.jsonl").unlink()
    cfg = load_config(str(finished.path), options)
    (run,) = evaluate_checkpoints([cfg], [folder])
    # Training evaluated the same weights.
    assert run.evaluations == {1: finished.witness.evaluations[0][1], 2: finished.witness.evaluations[1][1]}
    assert log.text.count("evaluation after epoch") == 2
    assert read_runs([folder])[0].evaluations == run.evaluations

    # Again: what is known is not evaluated, even after a kill that cut a line.
    path = folder / EVALUATIONS
    rows = path.read_text().splitlines()
    assert [json.loads(row)["weights"] for row in rows] == ["0.pdparams", "model_final.pdparams"]
    path.write_text(rows[0] + "\n" + rows[1][:50])
    log.clear()
    assert evaluate_checkpoints([cfg], [folder])[0].evaluations == run.evaluations
    assert log.text.count("evaluation after epoch") == 1 and "0.pdparams: evaluated before" in log.text
    # Another configuration, or other weights, are another evaluation.
    log.clear()
    (folder / "0.pdparams").write_bytes((folder / "model_final.pdparams").read_bytes())
    other = load_config(str(finished.path), [*options, "FCOSHead.nms.score_threshold=0.9"])
    (run,) = evaluate_checkpoints([other], [folder])
    assert run.evaluations[1] == run.evaluations[2]
    assert [json.loads(row)["epoch"] for row in path.read_text().splitlines()] == [1, 2, 1, 2]
    # What is shown is of the last one alone.
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    assert read_runs([folder])[0].evaluations == {1: run.evaluations[1]}


def test_the_tool(finished, tmp_path):
    result = execute("tools/analyze.py", finished.folder, finished.folder, "--picture", tmp_path / "both.png")
    assert result.returncode == 0, result.stderr
    ap = finished.witness.evaluations[1][1]["AP"]
    assert f"{finished.folder}: best AP {ap:.3f} after epoch 2" in result.stdout
    assert result.stdout.count("best AP") == 2 and f"curves: {tmp_path / 'both.png'}" in result.stdout
    assert (tmp_path / "both.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "a.yml"], "-c, -o and --device are for --evaluate"),
        (["--device", "cpu"], "-c, -o and --device are for --evaluate"),
        (["-o", "epoch=3"], "-c, -o and --device are for --evaluate"),
    ],
)
def test_options_that_need_each_other(finished, arguments, message):
    result = execute("tools/analyze.py", finished.folder, *arguments)
    assert result.returncode == 2 and message in result.stderr


def test_nothing_to_analyse(finished, tmp_path):
    result = execute("tools/analyze.py", tmp_path / "none")
    assert (result.returncode, result.stdout) == (2, "")
    assert (
        result.stderr == f"error: {tmp_path}/none: no such folder: expected the folder of a run, such as output/NAME\n"
    )
    with pytest.raises(AnalysisError, match=r"no history.jsonl, or nothing in it: .* --evaluate, and with -c FILE"):
        read_runs([tmp_path])
    with pytest.raises(AnalysisError, match=r"no checkpoints, neither <epoch>.pdparams nor model_final.pdparams"):
        evaluate_checkpoints([load_config(str(finished.path))], [tmp_path])
