"""Benchmarks follow the code that they measure: all of them parse their options, and small runs end with a table."""

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

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
    differences = re.findall(r"^\| (?:ppdet|hotcoco).* ([\d.e-]+) +\|$", capsys.readouterr().out, re.MULTILINE)
    assert len(differences) == 2 and all(float(value) < 1e-9 for value in differences)


def test_opening_a_data_set_too_small_for_the_cache(capsys):
    run("open_data", "--images", 30, "--boxes", 200, "--repeat", 1, "--ranks", 2, "--files", 10)
    rows = re.findall(r"^\| (.+?) +\| ([\d][\d.e-]*) +\|", capsys.readouterr().out, re.MULTILINE)
    names = ["msgspec alone", "ppdet, the first time", "ppdet, 2 ranks, the first time"]
    assert [name for name, _ in rows] == [*names, "listing 10 image files"]


def test_every_addition_of_the_trainer_is_called_in_its_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "seed_generators", trainer.seed_generators)  # which the benchmark replaces
    data = write_tiny_coco(tmp_path / "data", images=2)
    options = [f"TrainDataset.dataset_dir={data}", "TrainDataset.image_dir=images", "TrainReader.batch_size=1"]
    run("trainer", "--repeat", 1, "-o", *options, "TrainDataset.anno_path=train.json", "num_classes=2")
    rows = re.findall(r"^\| (.+?) +\| ([\d][\d.e-]*) +\|", capsys.readouterr().out, re.MULTILINE)
    parts = {name: float(ms) for name, ms in rows}
    assert {"hooks", "seeding", "guard: check that all gradients are finite", "check for signals"} <= parts.keys()
    assert all(ms > 0 for ms in parts.values())


def test_the_gain_of_unlabeled_images_is_measured_once(tmp_path, capsys, monkeypatch):
    """Runs are started with the data and the lengths that the table tells of; finished ones are not started again."""
    data, commands = write_tiny_coco(tmp_path / "tiny", images=20), []
    content = json.loads((data / "train.json").read_text())
    (data / "annotations").mkdir()
    (data / "train.json").rename(data / "annotations" / "train.json")

    def pretend(command, **_):
        _, script, *options = command
        commands.append(options)
        if "gen_semi_coco" in script:  # the second split has an image without objects
            for seed, empty in ((1, []), (2, [1])):
                labels = {**content, "images": content["images"][:8]}
                labels["annotations"] = [row for row in labels["annotations"] if row["image_id"] not in empty]
                (tmp_path / "runs" / "annotations").mkdir(parents=True, exist_ok=True)
                (tmp_path / "runs" / "annotations" / f"train.{seed}@40.json").write_text(json.dumps(labels))
        if "train.py" in script:
            settings = dict(option.split("=", 1) for option in options if "=" in option)
            folder = Path(settings["save_dir"]) / Path(options[1]).stem
            folder.mkdir(parents=True)
            line = {"event": "evaluation", "numbers": {"AP": float(settings["epoch"]) / 1000}}
            (folder / "history.jsonl").write_text(json.dumps(line) + "\n")
            (folder / "model_final.json").write_text("{}")

    monkeypatch.setattr(subprocess, "run", pretend)
    more = ["--percent", "40.0", "--first_epochs", 3, "--epochs", 8, "--seeds", 1, 2, "--output", tmp_path / "runs"]
    more += ["--variant", "auto", "DenseTeacher.train_cfg.ratio=auto", "SemiTrainReader.unsup_batch_size=8", "epoch=9"]
    run("dense_teacher_gain", "--data", data, *more)
    split, *trained = commands
    assert split[:4] == ["--anno_path", str(data / "annotations" / "train.json"), "--percent", "40"]
    assert len(trained) == 2 * 6
    assert all({"num_classes=2", f"EvalDataset.dataset_dir={data}"} <= set(options) for options in trained)
    assert ["DenseTeacher.train_cfg.ratio=auto" in options for options in trained] == ([False] * 5 + [True]) * 2
    numbers = [option for options in trained for option in options if "sample_num" in option]
    assert numbers == ["UnsupTrainDataset.sample_num=8", "UnsupTrainDataset.sample_num=7"]
    epochs = [[option for option in options if option.startswith("epoch=")][-1] for options in trained]
    assert epochs == [f"epoch={number}" for number in (3, 8, 24, 8, 8, 9)] * 2
    run("dense_teacher_gain", "--data", data, *more, "--table")
    assert len(commands) == 13
    first, second = (
        [line for line in part.splitlines() if line.startswith("|")]
        for part in capsys.readouterr().out.split("\nAP of ")[1:]
    )
    assert first == second
    # 8 labeled images make 2 steps of 4 images in an epoch, the 7 with objects of the second split one; a student sees
    # 4 + 4 labeled and 4 unlabeled views; the variant is longer, and has 8 unlabeled ones.
    cells = [[cell.strip() for cell in line.split("|")[2:6]] for line in first[2:]]
    assert cells[:2] == [["3 to 6", "12 to 24", "0.3", "0.3"], ["8 to 16", "32 to 64", "0.8", "0.8"]]
    last = ["9 to 18", "144 to 288", "0.9", "0.9"]
    assert cells[2:] == [["24 to 48", "96 to 192", "2.4", "2.4"], *[["8 to 16", "96 to 192", "0.8", "0.8"]] * 2, last]
    with pytest.raises(SystemExit, match="3 labeled images are no full batch: raise --percent"):
        run("dense_teacher_gain", "--data", data, "--percent", "15", "--table")
    with pytest.raises(SystemExit):
        run("dense_teacher_gain", "--data", data, "-o", "epoch=3")
    assert "-o epoch=… would give all rows one length: use --first_epochs and" in capsys.readouterr().err


def test_an_update_from_several_batches_has_their_images(monkeypatch):
    monkeypatch.syspath_prepend(kernels.ROOT / "benchmarks")
    gain = importlib.import_module("dense_teacher_gain")
    # 9 labeled images are 2 batches of 4, which make one step in each of 8 epochs.
    assert gain.length(gain.SEMI, 9, ("accumulate_steps=2", "epoch=8")) == (8, 8 * 2 * (2 * 4 + 4))


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
