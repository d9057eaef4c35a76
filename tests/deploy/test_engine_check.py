"""`ppdet verify`: what each engine makes of a folder, an engine that crashes, and one that detects something else."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml

from ppdet.cli import verify as command
from ppdet.deploy import backends, engine_check
from ppdet.deploy.backends.base import Options
from ppdet.deploy.compare import SelfCheck

ENGINE = """
import os
from pathlib import Path
from ppdet.deploy.backends import BACKENDS
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime

class Crashing(ONNXRuntime):
    name = "crashing"
    def __init__(self, folder, options):
        print("the driver is gone", flush=True)
        os.abort()

for name in [name for name in BACKENDS if name != "onnxruntime"]:
    del BACKENDS[name]
BACKENDS["crashing"] = Crashing
"""


@pytest.fixture
def exported(padded_export):
    return padded_export


def test_a_crash_is_a_row_and_the_other_engine_is_compared(exported, tmp_path, monkeypatch, capsys):
    engine = tmp_path / "engines_of_a_test.py"
    engine.write_text(ENGINE)
    monkeypatch.setattr(engine_check, "PRECISIONS", ("fp32",))
    before = dict(backends.BACKENDS)
    try:
        command.main([str(exported), "--import", str(engine), "--json", str(tmp_path / "x.json"), "--cpu_threads", "1"])
    finally:
        backends.BACKENDS.clear()
        backends.BACKENDS.update(before)
    content = json.loads((tmp_path / "x.json").read_text())
    good, crashed = content["engines"]
    assert (good["engine"], good["outcome"], good["file"], good["unmatched"]) == (
        *("onnxruntime", "works", "model.onnx"),
        0,
    )
    assert good["compared"] > 10 and good["score"] < 1e-3 and good["milliseconds"] > 0 and content["is_good"]
    assert crashed["outcome"] == "fails" and crashed["why"].startswith("its process was ended by SIGABRT")
    text = capsys.readouterr().out
    assert "self-check: 2 images" in text and "fastest: onnxruntime in fp32" in text
    assert "fails: crashing in fp32: its process was ended by SIGABRT" in text


@pytest.mark.parametrize("change", ["score", "box", "images"])
def test_an_engine_with_other_detections_differs(exported, tmp_path, change):
    shutil.copytree(exported, tmp_path / "copy")
    check = SelfCheck.read(exported)
    rows = [part.copy() for part in check.rows]
    if change == "images":
        rows = [np.concatenate(rows)]
    for part in rows:
        part[:, 1] += 0.02 * (change == "score")
        part[:, 2:] += 3 * (change == "box")
    check._replace(rows=rows).write(tmp_path / "copy")
    row = engine_check.run_engine(tmp_path / "copy", "onnxruntime", Options(threads=1), "model.onnx")
    assert row.outcome == "differs" and row.why and not engine_check.is_good([row])
    assert engine_check.summary([row]) == [f"differs: onnxruntime in fp32: {row.why}"]


def test_a_folder_without_self_check_is_loaded(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "selfcheck.npz").unlink()
    row = engine_check.run_engine(tmp_path / "copy", "onnxruntime", Options(threads=1), "model.onnx")
    assert row.outcome == "loads" and "no self-check" in row.why and engine_check.is_good([row])
    (tmp_path / "copy" / "model.onnx").write_bytes(b"no graph")
    row = engine_check.run_engine(tmp_path / "copy", "onnxruntime", Options(threads=1), "model.onnx")
    assert row.outcome == "fails" and "cannot load it" in row.why and not engine_check.is_good([row])


def test_nothing_to_run_is_an_error_that_says_what_writes_the_files(tmp_path, capsys):
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump({"Preprocess": [], "label_list": ["a"]}))
    with pytest.raises(SystemExit, match="1"):
        command.main([str(tmp_path)])
    text = capsys.readouterr().out
    assert text.count("unavailable") == 9 and "no engine on this machine can run the folder" in text
    assert "ppdet export --format openvino --precision fp16 writes one" in text
    assert os.listdir(tmp_path) == ["infer_cfg.yml"]
