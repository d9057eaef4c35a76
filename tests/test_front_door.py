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


def test_names_without_paddle_leave_it_alone():
    """And the first one with it sets the threads that paddle reads when it is imported."""
    code = "import os, sys, ppdet; ppdet.register, ppdet.merge_config, ppdet.Detector, ppdet.zoo.list()\n"
    code += "assert 'paddle' not in sys.modules; ppdet.load_config; print(os.environ['OMP_NUM_THREADS'])"
    environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(result.stdout) >= 1


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
