"""The history of a run after resumes, kills and damage."""

import json
from pathlib import Path

import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import read_sealed, write_sealed
from ppdet.engine.hooks.history import HISTORY, HistoryHook, finite, read_history, undetected
from ppdet.engine.trainer import Trainer
from ppdet.metrics.coco_metric import COCOMetric

NUMBERS = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}


def places(lines):
    return [(line["event"], line["iteration"]) for line in lines]


BOTH_EPOCHS = [
    *[("report", 1), ("report", 3), ("report", 4), ("evaluation", 4)],
    *[("report", 5), ("report", 7), ("report", 8), ("evaluation", 8)],
]


def begin(finished, options, **settings):
    """A trainer in its state at the start of training."""
    trainer = Trainer(load_config(str(finished.path), options), **settings)
    trainer.call_hooks("before_train")
    trainer.call_hooks("close")
    return trainer


def test_a_line_for_every_report_and_evaluation(finished):
    lines = [json.loads(row) for row in (finished.folder / HISTORY).read_text().splitlines()]
    assert places(lines) == BOTH_EPOCHS
    assert [(line["epoch"], line["step"]) for line in lines] == [
        *[(1, 1), (1, 3), (1, 4), (1, 4)],
        *[(2, 1), (2, 3), (2, 4), (2, 4)],
    ]
    assert {line["steps_per_epoch"] for line in lines} == {4}
    losses, rates = finished.witness.losses, finished.witness.rates
    reports = [line for line in lines if line["event"] == "report"]
    means = [losses[0], np.mean(losses[1:3]), losses[3], losses[4], np.mean(losses[5:7]), losses[7]]
    assert [line["losses"]["loss"] for line in reports] == pytest.approx(means, rel=1e-5)
    assert {"loss", "loss_cls", "loss_box"} <= set(reports[0]["losses"])
    assert [line["learning_rate"] for line in reports] == [rates[i] for i in (0, 2, 3, 4, 6, 7)]
    for line in reports:
        assert line["images_per_second"] == pytest.approx(2 / line["seconds_per_step"])
        assert line["max_mem_mib"]["host"] > 100
    evaluations = [line["numbers"] for line in lines if line["event"] == "evaluation"]
    assert evaluations == [numbers for _, numbers in finished.witness.evaluations]
    assert set(evaluations[0]) == NUMBERS
    assert all(set(line["undetected"]) <= {"red", "blue"} for line in lines if line["event"] == "evaluation")


def test_classes_without_a_sure_detection_are_named():
    metric = COCOMetric(anno_path=None, category_ids=[3, 7, 9], class_names=["red", "blue", "green"], records=[])
    metric.update([[0, 0.31, 0, 0, 5, 5], [1, 0.29, 0, 0, 5, 5], [-1, 0.9, 0, 0, 5, 5]], [3], [1])
    assert undetected(metric) == ["blue", "green"]


def test_what_comes_after_the_checkpoint_is_dropped(finished, tmp_path):
    options, folder = finished.copy_to(tmp_path / "output")
    begin(finished, options, resume=str(folder / "snapshot_6"))
    assert places(read_history(folder / HISTORY)) == BOTH_EPOCHS[:5]
    begin(finished, options, resume=str(folder / "0"))
    assert places(read_history(folder / HISTORY)) == BOTH_EPOCHS[:4]
    assert sorted(p.name for p in folder.glob("history*")) == [HISTORY]


def test_an_evaluation_that_is_made_again_is_dropped(finished, tmp_path):
    options, folder = finished.copy_to(tmp_path / "output")
    manifest = read_sealed(folder / "0.json")
    write_sealed(folder / "0.json", {**manifest, "state": {**manifest["state"], "evaluated": False}})
    begin(finished, options, resume=str(folder / "0"))
    assert places(read_history(folder / HISTORY)) == BOTH_EPOCHS[:3]


def test_another_batch_size_counts_other_steps(finished, tmp_path):
    options, folder = finished.copy_to(tmp_path / "output")
    trainer = begin(finished, [*options, "TrainReader.batch_size=1"], resume=str(folder / "snapshot_6"))
    # Six steps of two images are twelve of one: the report after seven of the former is ahead of that.
    assert trainer.iteration == 12
    assert places(read_history(folder / HISTORY)) == BOTH_EPOCHS[:5]


def test_a_new_run_renames_the_old_history(finished, tmp_path, log):
    options, folder = finished.copy_to(tmp_path / "output")
    old = (folder / HISTORY).read_text()
    begin(finished, options)
    assert (folder / "history_1.jsonl").read_text() == old
    assert "history of an earlier run is now" in log.text
    begin(finished, options)
    assert (folder / "history_1.jsonl").read_text() == old
    assert (folder / "history_2.jsonl").exists()
    assert read_history(folder / HISTORY) == []


def test_resuming_from_another_folder_takes_its_history_along(finished, tmp_path):
    options, folder = finished.copy_to(tmp_path / "output")
    (folder / HISTORY).write_text("what was here\n")
    begin(finished, options, resume=str(finished.folder / "0"))
    assert places(read_history(folder / HISTORY)) == BOTH_EPOCHS[:4]
    assert (folder / "history_1.jsonl").read_text() == "what was here\n"


@pytest.mark.parametrize(
    "damage",
    ['{"event": "report", "itera', "", "null", "[1]", '{"event": "x"}', '{"event": "report", "iteration": "a"}'],
)
def test_damaged_lines_do_not_break_reading(finished, tmp_path, damage):
    path = tmp_path / HISTORY
    rows = (finished.folder / HISTORY).read_text().splitlines()
    path.write_text("\n".join([*rows[:3], damage, *rows[3:], rows[0][:40]]))
    assert places(read_history(path)) == BOTH_EPOCHS
    path.write_bytes(b"\xfe\x80" + path.read_bytes())
    assert places(read_history(path)) == BOTH_EPOCHS[1:]


def test_a_full_disk_does_not_end_the_run(finished, tmp_path, log):
    options, folder = finished.copy_to(tmp_path / "output")
    trainer = Trainer(load_config(str(finished.path), options), resume=str(folder / "0"))
    hook = next(hook for hook in trainer.hooks if isinstance(hook, HistoryHook))
    hook.before_train(trainer)
    report = finished.witness.reports[0][1]
    hook.path = Path("/dev/full")
    hook.after_report(trainer, report)
    hook.after_report(trainer, report)
    assert log.text.count("No space left on device") == 1
    # The disk has room again, and the beginning of a line on it.
    hook.path = folder / HISTORY
    with open(hook.path, "a") as stream:
        stream.write('{"event": "rep')
    hook.after_report(trainer, report)
    hook.after_evaluation(trainer, {"AP": 0.5})
    lines = read_history(hook.path)
    assert places(lines) == [*BOTH_EPOCHS[:4], ("report", 4), ("evaluation", 4)]
    assert lines[-1]["numbers"] == {"AP": 0.5}


def test_json_has_no_nan():
    assert finite({"a": float("nan"), "b": {"c": float("inf"), "d": 1.5, "e": "x"}}) == {
        "a": None,
        "b": {"c": None, "d": 1.5, "e": "x"},
    }
