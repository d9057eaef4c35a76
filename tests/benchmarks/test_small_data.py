"""The benchmark of small data compares runs that differ in one thing, and see equally many images."""

import importlib
import re

import pytest

from ppdet.core.workspace import load_config


@pytest.fixture
def benchmark(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "benchmarks")
    return importlib.import_module("small_data")


def test_all_runs_but_those_of_another_length_see_672_images(benchmark):
    seen = {}
    for name, row in benchmark.ROWS.items():
        cfg = load_config(benchmark.ROOT / benchmark.SUPERVISED, benchmark.settings(row))
        batch = cfg.component("TrainReader")["batch_size"]
        seen[name] = cfg["epoch"] * (56 // batch) * batch
        assert cfg["epoch"] % cfg["snapshot_epoch"] == 0  # the last epoch is evaluated
    lengths = {"length_quarter": 168, "length_half": 336, "length_double": 1344}
    assert seen == {**dict.fromkeys(benchmark.ROWS, 672), **lengths}


def test_patience_ends_a_run_after_so_many_evaluations_without_a_better_one(benchmark):
    found = [(3, 20.0), (6, 25.0), (9, 24.0), (12, 26.0), (15, 25.9), (18, 26.0), (21, 30.0)]
    assert benchmark.ended(found, 1) == "ends after epoch 9 with 25.0"
    assert benchmark.ended(found, 2) == "ends after epoch 18 with 26.0"  # an equal one is not better
    assert benchmark.ended(found, 3) == "does not end it"
    assert benchmark.ended(found[:2], 1) == "does not end it"


def test_the_page_has_every_run(benchmark):
    page = (benchmark.ROOT / "docs" / "SMALL_DATA.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| [*\d.]+ \| [*\d.-]+ \|$", page, re.MULTILINE)
    assert rows == [row.what for row in benchmark.ROWS.values()]
