"""The benchmark of picking compares equal numbers of images, none of which is labeled already."""

import importlib
import json

import pytest

CONTENT = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in range(6)],
    "annotations": [{"id": 10 + number, "image_id": number, "category_id": 1 + number % 2} for number in range(6)],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}


@pytest.fixture
def benchmark(monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath / "benchmarks")
    return importlib.import_module("pick_images")


def test_images_are_drawn_from_those_without_labels_and_kept(benchmark, tmp_path):
    pool, labeled = tmp_path / "pool", tmp_path / "labeled.json"
    pool.mkdir()
    for image in CONTENT["images"]:
        (pool / image["file_name"]).touch()
    benchmark.write_labels(CONTENT, {"0.jpg", "3.jpg"}, labeled)
    assert benchmark.names_in(labeled) == {"0.jpg", "3.jpg"}
    assert [one["id"] for one in json.loads(labeled.read_text())["annotations"]] == [10, 13]
    assert benchmark.boxes_of(labeled) == "1 a, 1 b"
    drawn = [benchmark.choose("random", pool, labeled, None, tmp_path / str(seed), 2, seed) for seed in range(9)]
    assert set.union(*drawn) == {"1.jpg", "2.jpg", "4.jpg", "5.jpg"} and all(len(names) == 2 for names in drawn)
    assert benchmark.choose("random", pool, labeled, None, tmp_path / "0", 2, seed=99) == drawn[0]
    with pytest.raises(SystemExit, match="2 images, expected 3: the comparison would not be fair"):
        benchmark.choose("random", pool, labeled, None, tmp_path / "0", 3, seed=0)
