"""Time to the first detection: real processes print what the table needs, and DEPLOY.md has this table."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import cv2
import first_detection
import numpy as np
import pytest
from toy_onnx import OPERATIONS, write_model

from ppdet.deploy.preprocess import Preprocess


def test_the_processes_detect_and_print_every_part(tmp_path):
    pytest.importorskip("onnxruntime")
    image = tmp_path / "gray.png"
    cv2.imwrite(str(image), np.full((64, 80, 3), 200, np.uint8))
    write_model(tmp_path)
    preprocess = Preprocess({"Preprocess": OPERATIONS})
    prepared = tmp_path / "prepared.npz"
    np.savez(prepared, **preprocess.join([preprocess.prepare(str(image))]))
    commands = first_detection.programs(tmp_path, image, prepared, ["onnxruntime"])
    assert set(commands) == {("onnxruntime", "detector"), ("onnxruntime", "alone")}
    times = {key: first_detection.run(command) for key, command in commands.items()}
    *parts, count = times["onnxruntime", "detector"]
    assert count == 1 and len(parts) == len(first_detection.PARTS) + 1 and all(seconds > 0 for seconds in parts)
    (row,) = first_detection.table(times)
    alone = times["onnxruntime", "alone"][0]
    assert len(row) == len(first_detection.HEADER)
    assert row[5] == pytest.approx(sum(parts[:4])) and row[-2:] == pytest.approx([alone, sum(parts[:4]) / alone])


def test_auto_has_no_engine_of_its_own():
    rows = first_detection.table({("auto", "detector"): [1.0, 1e-6, 4.0, 0.5, 0.25, 7]})
    assert rows == [["auto", 1.0, "", 4.0, 0.5, pytest.approx(5.5), 0.25, "", ""]]


def test_a_process_that_fails_ends_the_benchmark_with_its_message(tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)onnxruntime: .*No module named 'nothing'"):
        first_detection.run(["import nothing", "onnxruntime"])


def test_the_table_of_the_page_is_that_of_the_command():
    page = (first_detection.ROOT / "docs" / "DEPLOY.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    start = lines.index([*first_detection.HEADER])
    assert [cells[0] for cells in lines[start + 2 : start + 6]] == [*first_detection.ENGINES, "auto"]
    for _, *numbers in lines[start + 2 : start + 6]:
        values = [float(cell) if cell else 0.0 for cell in numbers]
        assert sum(values[:4]) == pytest.approx(values[4], rel=0.01)
