"""Benchmarks follow the code that they measure: all of them parse their options, and small runs end with a table."""

import re
import runpy
import sys

import pytest
from counting import kernels
from tiny import write_tiny_coco

from ppdet.engine import trainer

NAMES = sorted(path.stem for path in (kernels.ROOT / "benchmarks").glob("*.py") if path.stem != "common")


def run(name, *arguments):
    """Run a benchmark in this process, as `python benchmarks/NAME.py ARGUMENTS` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"benchmarks/{name}.py", *map(str, arguments)])
        runpy.run_path(str(kernels.ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_help_text_with_commands(name, capsys):
    with pytest.raises(SystemExit) as end:
        run(name, "--help")
    assert end.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


def test_evaluation_agrees_with_the_library_alone(capsys):
    run("evaluate", "--images", 20, "--detections", 400, "--repeat", 1)
    differences = re.findall(r"^\| (?:ppdet|faster).* ([\d.e-]+) +\|$", capsys.readouterr().out, re.MULTILINE)
    assert len(differences) == 2 and all(float(value) < 1e-9 for value in differences)


def test_every_addition_of_the_trainer_is_called_in_its_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "seed_generators", trainer.seed_generators)  # which the benchmark replaces
    data = write_tiny_coco(tmp_path / "data", images=2)
    options = [f"TrainDataset.dataset_dir={data}", "TrainDataset.image_dir=images", "TrainReader.batch_size=1"]
    run("trainer", "--repeat", 1, "-o", *options, "TrainDataset.anno_path=train.json", "num_classes=2")
    rows = re.findall(r"^\| (.+?) +\| ([\d][\d.e-]*) +\|", capsys.readouterr().out, re.MULTILINE)
    parts = {name: float(ms) for name, ms in rows}
    assert {"hooks", "seeding", "guard: check that all gradients are finite", "check for signals"} <= parts.keys()
    assert all(ms > 0 for ms in parts.values())


def test_the_parts_of_a_semi_supervised_step_add_up_to_their_sum(tmp_path, capsys):
    data = write_tiny_coco(tmp_path / "data", images=2, size=(64, 96))
    values = {"dataset_dir": data, "image_dir": "images", "anno_path": "train.json"}
    options = [
        f"{name}.{key}={value}" for name in ("TrainDataset", "UnsupTrainDataset") for key, value in values.items()
    ]
    options += ["num_classes=2", "input_size=[64,96]", "SemiTrainReader.sup_batch_size=1"]
    run("dense_teacher", "--repeat", 1, "-o", *options, "SemiTrainReader.unsup_batch_size=1")
    rows = re.findall(r"^\| (.+?) +\| ([\d][\d.e-]*) +\|", capsys.readouterr().out, re.MULTILINE)
    *parts, whole, _ = (float(ms) for _, ms in rows)
    assert len(parts) == 3 and sum(parts) == pytest.approx(whole, rel=0.02)
