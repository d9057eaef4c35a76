"""`import ppdet`: lazy names, and the example of its docstring."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import ppdet

ROOT = Path(__file__).resolve().parents[1]


def test_every_name_is_what_type_checkers_see():
    """TYPE_CHECKING's imports, which editors and mypy read, and the lazy ones give the same objects."""
    tree = ast.parse((ROOT / "ppdet" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    places = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert places == {**ppdet.WITHOUT_PADDLE, **ppdet.WITH_PADDLE, "zoo": "ppdet.zoo"}
    assert sorted(places) == ppdet.__all__ and set(places) < set(dir(ppdet))
    for name in ppdet.__all__:
        assert getattr(ppdet, name).__name__ in (name, "export_model", "ppdet.zoo")
    with pytest.raises(AttributeError, match="module 'ppdet' has no attribute 'trainer_of'"):
        ppdet.trainer_of  # noqa: B018


def run(code):
    """What a new Python prints."""
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_names_without_paddle_leave_it_alone():
    code = "import sys, ppdet; ppdet.register, ppdet.merge_config, ppdet.Detector, ppdet.zoo.list()"
    assert run(f"{code}; print('paddle' in sys.modules)") == "False\n"


def test_paddle_is_loaded_with_its_threads_and_after_opencv():
    """Paddle reads the threads when it is imported; with Paddle 2.6 before OpenCV, writing a PNG file is a crash."""
    code = """
import os, sys
class Finder:
    def find_spec(name, *others):
        if name in ("cv2", "paddle"):
            print(name)
sys.meta_path.insert(0, Finder)
import ppdet
ppdet.load_config
import cv2, numpy
print(os.environ["OMP_NUM_THREADS"])
print(cv2.imencode(".png", numpy.random.default_rng(0).integers(0, 255, (300, 300, 3), "uint8"))[0])
"""
    first, *_, threads, written = run(code).split()
    assert (first, written) == ("cv2", "True") and int(threads) >= 1


def test_paddle_that_came_first_computes_on_one_thread(monkeypatch, log):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("ppdet.utils.process.cpu.cpu_count", lambda: 8)
    ppdet._load_paddle.cache_clear()
    ppdet._load_paddle()
    assert "paddle computes on 1 of 8 processors" in log.text


def test_the_example_runs(tmp_path, monkeypatch, tiny, capsys):
    """The example of the docstring and README, on a smaller detector and data set."""
    [example] = re.findall(r"\n\n((?:    .*\n|\n)+)\n", ppdet.__doc__)
    code = "".join(line[4:] or "\n" for line in example.splitlines(keepends=True)).strip()
    assert code in (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("dataset/shapes/data/images/val").mkdir(parents=True)
    cv2.imwrite("dataset/shapes/data/images/val/000041.jpg", np.random.default_rng(0).integers(0, 255, (96, 128, 3)))
    code = code.replace('"fcos_r18_fpn_shapes", {"epoch": 4, ', f"{str(tiny)!r}, {{'epoch': 1, ")
    values: dict = {}
    exec(code, values)
    assert values["predictor"].dataset.class_names == values["detector"].class_names
    assert (tmp_path / "output_inference" / "short" / "infer_cfg.yml").is_file()
    assert re.search(r"^(0\.\d+|-1\.0|\d+\.\d+)$", capsys.readouterr().out, re.MULTILINE)
