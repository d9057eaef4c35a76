"""The benchmark of recipes changes nothing but data, seed, start and length, and reads its figures from the runs."""

import argparse
import importlib
import json

import pytest

from ppdet.core.workspace import load_config


@pytest.fixture
def benchmark(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "benchmarks")
    return importlib.import_module("recipes")


@pytest.fixture
def runs(benchmark, tmp_path):
    folders = {}
    for name, classes in (("bccd", 3), ("deeppcb", 6)):
        folders[name] = tmp_path / name
        (folders[name] / "annotations").mkdir(parents=True)
        content = {"categories": [{"id": number, "name": str(number)} for number in range(classes)]}
        (folders[name] / "annotations" / "val.json").write_text(json.dumps(content))
    chosen = [["on_deeppcb", "epoch=8"], ["from_other", "LearningRate.base_lr=0.002"], ["deeppcb_short", "seed=5"]]
    arguments = argparse.Namespace(
        config=benchmark.OLD, row_opt=chosen, opt=["log_iter=7"], amp=False, table=True, seeds=[1, 2], json=None
    )
    return benchmark.Runs(folders, tmp_path / "runs", arguments)


def write_run(folder, numbers, seconds=2.0):
    """A finished run: 3 and 2 steps of `seconds` each, the evaluations of which took 5 and 7 seconds."""
    folder.mkdir(parents=True)
    (folder / "model_final.json").write_text("{}")
    (folder / "config.yml").write_text("_BASE_: fcos_r18vd_fpn_bccd\n")
    lines = [
        {"event": "report", "iteration": 3, "time": "2026-01-01T10:00:00", "seconds_per_step": seconds},
        {"event": "evaluation", "iteration": 3, "time": "2026-01-01T10:00:05", "numbers": {"AP": 0.1}},
        # The run was interrupted for an hour.
        {"event": "report", "iteration": 5, "time": "2026-01-01T11:00:00", "seconds_per_step": seconds},
        {"event": "evaluation", "iteration": 5, "time": "2026-01-01T11:00:07", "numbers": numbers},
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_rows_differ_in_data_and_length_alone(benchmark, runs):
    allowed = ("Dataset.", "num_classes=", "epoch=", "snapshot_epoch=", "eval_metrics=", "keep_checkpoints=")
    found = {}
    for name, row in benchmark.ROWS.items():
        options = runs.options(name)
        others = [option for option in options if not any(part in option for part in allowed)]
        assert others[-1:] == ["log_iter=7"]
        cfg = load_config(runs.config(name), options)
        found[name] = (cfg["epoch"], cfg["snapshot_epoch"], cfg["num_classes"], others[:-1])
        for part, file in (("Train", "train"), ("Eval", "val")):
            dataset = cfg[f"{part}Dataset"]
            assert dataset["dataset_dir"] == str(runs.data[row.data])
            assert dataset["anno_path"] == f"annotations/{file}.json"
    assert found == {
        "base": (16, 4, 3, []),
        "bccd": (16, 4, 3, []),
        "bccd_short": (4, 4, 3, []),
        "bccd_transfer": (4, 4, 3, ["LearningRate.base_lr=0.002"]),
        "deeppcb": (8, 2, 6, []),
        "deeppcb_short": (2, 2, 6, ["seed=5"]),
        "deeppcb_transfer": (2, 2, 6, ["LearningRate.base_lr=0.002"]),
    }


def test_a_transfer_starts_from_the_whole_run_of_the_other_data_set(benchmark, runs, monkeypatch):
    commands = []

    def train(*command):
        commands.append(command)
        saved = next(word for word in command if str(word).startswith("save_dir="))
        write_run(benchmark.Path(saved.partition("=")[2]) / benchmark.OLD, {"AP": 0.2})

    monkeypatch.setattr(benchmark, "run", train)
    runs.train("deeppcb_transfer", 2)
    runs.train("deeppcb_transfer", 2)  # both are finished
    first, second = ([str(word) for word in command] for command in commands)
    assert "epoch=16" in first and not [word for word in first if word.startswith("pretrain_weights")]
    start = runs.folder("bccd", 2) / "model_final.pdparams"
    assert "epoch=2" in second and f"pretrain_weights={start}" in second and "seed=2" in second


def test_figures_are_those_of_the_last_evaluation_without_interruptions(benchmark, runs, capsys):
    """5 steps of 2 seconds, 5 + 7 seconds of evaluation, 4 images in each step."""
    numbers = {"AP": 0.5, "AP50": 0.8, "AP@0.33": 0.9, "F@0.33": 0.7}
    write_run(runs.folder("bccd", 1), numbers)
    found = list(benchmark.finished(runs, "bccd", runs.arguments))
    assert found == [benchmark.Finished(1, numbers, 20, pytest.approx(22 / 60))]
    write_run(runs.folder("bccd", 2), {**numbers, "AP": 0.52})
    rows = [("whole", list(benchmark.finished(runs, "bccd", runs.arguments))), ("none", [])]
    with (runs.folder("bccd", 2) / "config.yml").open("a") as file:
        file.write("accumulate_steps: 2\n")
    assert [one.images for one in benchmark.finished(runs, "bccd", runs.arguments)] == [20, 40]
    capsys.readouterr()
    benchmark.print_table("Title", rows, runs.arguments)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert table[0] == ["whole", "50", "52", "51", "2", "80", "90", "70", "20", "0.367"]
    assert table[1] == ["none", *["-"] * 9]


def test_variants_are_evaluated_once(benchmark, runs, monkeypatch):
    write_run(runs.folder("bccd", 1), {"AP": 0.5})
    calls = []

    def evaluate(folder, path, options):
        calls.append((folder, options))
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"numbers": {"AP": 0.6}, "images": 9, "minutes": 0.1}))

    monkeypatch.setattr(benchmark, "evaluate", evaluate)
    runs.arguments.table = False
    variants = {"plain": "", **dict([benchmark.parse_variant("scales: --tta --tta_scales 0.8 1")])}
    for _ in range(2):
        found = list(benchmark.evaluated(runs, variants, runs.arguments))
        assert [(what.partition(": ")[2], [one.numbers["AP"] for one in ones]) for what, ones in found] == [
            ("plain", [0.6]),
            ("scales", [0.6]),
        ]
    folder = runs.folder("bccd", 1)
    assert calls == [(folder, []), (folder, ["--tta", "--tta_scales", "0.8", "1"])]
    with pytest.raises(SystemExit, match='expected "NAME: OPTIONS"'):
        benchmark.parse_variant("--tta")
