"""The benchmark of label noise puts faults of known places into annotations, and counts which of them are listed."""

import copy
import importlib
import random
from collections import Counter

import numpy as np
import pytest

from ppdet.engine.label_noise import KINDS, Doubt

CONTENT = {
    "images": [{"id": number, "width": 100, "height": 80} for number in range(10)],
    "annotations": [
        {"id": number, "image_id": number // 2, "category_id": 1 + number % 3, "bbox": [40, 30, 20, 10]}
        for number in range(20)
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}],
}


@pytest.fixture
def benchmark(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "benchmarks")
    return importlib.import_module("label_noise")


def test_each_fault_is_put_in_its_share_and_known(benchmark):
    content = copy.deepcopy(CONTENT)
    faults = benchmark.put_faults(content, 0.1, random.Random(1))
    assert Counter(fault.kind for fault in faults) == {kind: 2 for kind in benchmark.KINDS}
    rows = {row["id"]: row for row in content["annotations"]}
    old = {row["id"]: row for row in CONTENT["annotations"]}
    assert len(rows) == 20 and len(old.keys() - rows.keys()) == 2
    kept = old.keys() & rows.keys()
    assert sum(rows[i]["category_id"] != old[i]["category_id"] for i in kept) == 2
    moved = [rows[i]["bbox"] for i in kept if rows[i]["bbox"] != [40, 30, 20, 10]]
    assert len(moved) == 2
    assert all(box in ([30, 30, 20, 10], [50, 30, 20, 10], [40, 25, 20, 10], [40, 35, 20, 10]) for box in moved)
    for row in (rows[i] for i in rows.keys() - old.keys()):
        x, y, w, h = row["bbox"]
        assert (w, h) == (20, 10) and 0 <= x <= 80 and 0 <= y <= 70


def test_a_fault_counts_once_and_what_shows_none_is_false(benchmark):
    box, away = np.array([[0.0, 0, 10, 10]]), np.array([[50.0, 50, 60, 60]])
    faults = [benchmark.Fault(1, "label deleted", box.tolist()), benchmark.Fault(2, "class swapped", box.tolist())]
    doubts = [(2, box), (1, away), (2, box), (1, box)]
    listed = [(image, Doubt("missing box", 0.9, boxes, [0], "")) for image, boxes in doubts]
    rows, count, right = benchmark.judge(faults, listed, list(KINDS))
    assert (count, right) == (4, 3)
    assert rows[0] == ["class swapped", 1, 1, 1] and rows[2] == ["label deleted", 1, 1, 0]
