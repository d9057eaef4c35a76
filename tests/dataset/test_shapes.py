import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from ppdet.data import shapes

SCRIPT = Path(__file__).parents[2] / "dataset" / "shapes" / "generate.py"


def read_files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_files_other_seed_other_files(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        shapes.generate(tmp_path / name, train=12, val=4, seed=seed)
    first, second, other = (read_files(tmp_path / name) for name in "abc")
    assert len(first) == 12 + 4 + 2
    assert first == second
    assert not any(first[name] == other[name] for name in first)


def test_a_longer_data_set_starts_with_a_shorter_one(tmp_path):
    shapes.generate(tmp_path / "short", train=3, val=1)
    shapes.generate(tmp_path / "long", train=6, val=2)
    short, long = read_files(tmp_path / "short"), read_files(tmp_path / "long")
    pictures = [name for name in short if name.endswith(".jpg")]
    assert len(pictures) == 4 and all(short[name] == long[name] for name in pictures)


def test_second_run_does_nothing_and_a_damaged_or_other_set_is_written_again(tmp_path):
    assert shapes.generate(tmp_path, train=5, val=2) is not None
    before = read_files(tmp_path)
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert shapes.generate(tmp_path, train=5, val=2) is None
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}

    (tmp_path / "images" / "train" / "000003.jpg").unlink()
    (tmp_path / "annotations" / "val.json").write_text("{")
    assert shapes.generate(tmp_path, train=5, val=2) is not None
    assert read_files(tmp_path) == before

    shapes.generate(tmp_path, train=3, val=2)
    assert len(list((tmp_path / "images" / "train").iterdir())) == 3, "no images of the longer set are left"


def test_boxes_lie_in_their_images_and_ids_are_those_of_coco(tmp_path):
    shapes.generate(tmp_path, train=60, val=10)
    for split in ("train", "val"):
        content = json.loads((tmp_path / "annotations" / f"{split}.json").read_text())
        assert [c["name"] for c in content["categories"]] == ["circle", "square", "triangle", "star"]
        sizes = {}
        for image in content["images"]:
            pixels = cv2.imread(str(tmp_path / "images" / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3) == (128, 128, 3)
            sizes[image["id"]] = pixels.shape
        assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            assert x >= 0 and y >= 0 and x + w <= 128 and y + h <= 128 and w >= 3 and h >= 3
            assert 0 < annotation["area"] <= w * h
            assert annotation["image_id"] in sizes and annotation["category_id"] in (1, 2, 3, 4)


def test_box_is_the_tight_hull_of_the_pixels(monkeypatch):
    def paint_white(rng, image, mask):
        image[mask > 127] = 255

    monkeypatch.setattr(shapes, "_background", lambda rng, size: np.zeros((size, size, 3), np.float32))
    monkeypatch.setattr(shapes, "_paint", paint_white)
    checked = 0
    for seed in range(60):
        image, objects = shapes.draw_scene(np.random.default_rng(seed), 128, ["plain", "truncated"][seed % 2])
        if len(objects) == 1:
            rows, columns = np.nonzero(image[..., 0] > 127)
            hull = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert objects[0]["bbox"] == hull and objects[0]["area"] == len(rows)
            checked += 1
    assert checked > 5


def test_hard_cases_are_what_they_say():
    def scenes(case):
        return [shapes.draw_scene(np.random.default_rng([9, n]), 128, case)[1] for n in range(30)]

    assert all(objects == [] for objects in scenes("empty"))
    assert all(max(objects[0]["bbox"][2:]) <= 22 for objects in scenes("tiny"))
    for objects in scenes("truncated"):
        x, y, w, h = objects[0]["bbox"]
        assert x == 0 or y == 0 or x + w == 128 or y + h == 128
    assert sum(len(objects) >= 2 for objects in scenes("occluded")) >= 24
    plain = [shape for objects in scenes("plain") for shape in objects]
    sides = np.sort([max(shape["bbox"][2:]) for shape in plain])
    assert sides[len(sides) // 20] >= 20 and sides[-1] <= 112


def test_the_quick_start_has_every_class_and_every_hard_case(tmp_path):
    summary = shapes.generate(tmp_path)
    for split, images in (("train", 600), ("val", 100)):
        counts = summary[split]
        assert sum(counts[case] for case in ("plain", *shapes.HARD_CASES)) == images
        assert min(counts[name] for name in shapes.CLASS_NAMES) > images / 2
        assert all(0 < counts[case] < 0.1 * images for case in shapes.HARD_CASES)


def run_script(*arguments, cwd):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_command_line_works_from_any_folder(tmp_path):
    result = run_script("--output", "x", "--train", "3", "--val", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "train: 3 images" in result.stdout and "written to x" in result.stdout
    result = run_script("--output", "x", "--train", "3", "--val", "1", cwd=tmp_path)
    assert result.stdout == "x is complete: nothing to do\n"


def test_bad_arguments_are_explained(tmp_path):
    assert "examples:" in run_script("--help", cwd=tmp_path).stdout
    for arguments in (["--train", "0"], ["--size", "20"], ["--seed", "x"]):
        result = run_script(*arguments, cwd=tmp_path)
        assert result.returncode == 2 and "is not a whole number of at least" in result.stderr
    (tmp_path / "file").write_text("")
    result = run_script("--output", "file", cwd=tmp_path)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
