"""`ppdet verify`: what each engine makes of a folder, an engine that crashes, and one that detects something else."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import yaml

from ppdet.cli import verify as command
from ppdet.deploy import backends, compare, engine_check
from ppdet.deploy.backends.base import Options
from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.engine_check import Row
from ppdet.deploy.further_files import further_files

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
    options = ["--import", str(engine), "--json", str(tmp_path / "x.json"), "--cpu_threads", "1"]
    try:
        with pytest.raises(SystemExit, match="1"):
            command.main([str(exported), *options])
    finally:
        backends.BACKENDS.clear()
        backends.BACKENDS.update(before)
    content = json.loads((tmp_path / "x.json").read_text())
    good, crashed = content["engines"]
    assert (good["engine"], good["outcome"], good["file"], good["unmatched"]) == (
        *("onnxruntime", "works", "model.onnx"),
        0,
    )
    assert good["compared"] > 10 and good["score"] < 1e-3 and good["milliseconds"] > 0 and not content["is_good"]
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
    assert row.outcome == "differs" and row.why
    export = engine_check.Export.read(tmp_path / "copy")
    good = Row("openvino", "fp32", "works", "model.xml", compared=10, milliseconds=1.5)
    assert [engine_check.is_good(export, rows) for rows in ([good], [good, row])] == [True, False]
    lines = engine_check.summary(export, [good, row])
    assert lines[:2] == [
        "fastest: openvino in fp32, 1.5 ms per image",
        f"differs: onnxruntime in fp32: {row.why}",
    ]


def test_a_model_of_triton_is_run_unless_it_is_a_copy(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    export = engine_check.Export.read(tmp_path / "copy")
    good = Row("openvino", "fp32", "works", "model.xml", compared=10, milliseconds=1.5)
    (copy,) = (tmp_path / "copy").glob("triton/*/1/model.onnx")
    assert engine_check.summary(export, [good])[1:] == [
        f"not run in Triton: {copy.relative_to(tmp_path / 'copy').as_posix()}: it is the same file as model.onnx",
    ]
    assert not further_files(export.folder)
    copy.write_bytes(b"of another export")
    assert engine_check.summary(export, [])[0].endswith("it is no copy of an ONNX file of this folder: export it again")
    [file] = further_files(export.folder)
    failed = engine_check.run_further(export.folder, file, "fp32")
    assert (failed.outcome, failed.file) == ("fails", copy.relative_to(tmp_path / "copy").as_posix())
    assert "cannot load it" in failed.why and not engine_check.is_good(export, [good, failed])
    model = onnx.load(exported / "model.onnx")
    model.producer_name = "another exporter"
    onnx.save(model, copy)
    other = engine_check.run_further(export.folder, file, "fp32")
    assert (other.outcome, other.unmatched) == ("works", 0) and other.compared > 10


def test_a_folder_without_self_check_is_loaded(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "selfcheck.npz").unlink()
    (tmp_path / "copy" / "model_tensorrt.onnx").touch()
    export = engine_check.Export.read(tmp_path / "copy")
    row = engine_check.run_engine(tmp_path / "copy", "onnxruntime", Options(threads=1), "model.onnx")
    assert row.outcome == "loads" and "no self-check" in row.why and engine_check.is_good(export, [row])
    lines = engine_check.summary(export, [row, replace(row, precision="fp16")])
    assert lines[0] == f"not compared: onnxruntime in fp32, onnxruntime in fp16: {row.why}"
    assert lines[1].startswith("not run in TensorRT: model_tensorrt.onnx; the table says")
    (tmp_path / "copy" / "model.onnx").write_bytes(b"no graph")
    bad = engine_check.run_engine(tmp_path / "copy", "onnxruntime", Options(threads=1), "model.onnx")
    assert bad.outcome == "fails" and "cannot load it" in bad.why
    # Beside an engine that runs: in a precision that nobody asked for, it may fail.
    half = replace(bad, precision="fp16")
    assert [engine_check.is_good(export, rows) for rows in ([bad], [row, bad], [row, half])] == [False, False, True]
    assert not engine_check.is_good(replace(export, precision="fp16"), [row, half])
    # OpenVINO may lack an operator of an ONNX file, but not of a file of its own.
    lacking = Row("openvino", "fp32", "fails", "model.onnx", why="no such operator")
    own = replace(lacking, file="model.xml")
    goods = [engine_check.is_good(export, rows) for rows in ([lacking], [row, lacking], [row, own])]
    assert goods == [False, True, False]
    # A file of its own that nothing runs is damaged.
    assert not engine_check.is_good(export, [row, replace(half, file="model_fp16.onnx")])


def test_scores_that_are_too_close_are_said_to_be(exported, monkeypatch):
    """And not that there are no detections."""
    monkeypatch.setattr(compare, "EXACT", compare.EXACT._replace(score=1.0))
    row = engine_check.run_engine(exported, "onnxruntime", Options(threads=1), "model.onnx")
    assert row.outcome == "loads" and re.match(
        r"it runs; .*: the self-check has \d+ detections, but their scores", row.why
    )


def test_another_graph_of_the_same_inputs_differs(exported, tmp_path, monkeypatch):
    """Such as a file of an export that ends before NMS."""
    monkeypatch.setattr(ONNXRuntime, "run", lambda self, arrays: [np.zeros((2, 40, 4)), np.zeros((2, 2, 40))])
    row = engine_check.run_engine(exported, "onnxruntime", Options(threads=1), "model.onnx")
    assert (row.outcome, row.why) == (
        "differs",
        "it gives outputs of the shapes [2, 40, 4], [2, 2, 40], which are not those of a detector",
    )


def verify(folder, capsys, *options):
    """The exit code, and what is printed."""
    try:
        command.main([str(folder), *options])
    except SystemExit as end:
        return end.code, "".join(capsys.readouterr())
    return 0, "".join(capsys.readouterr())


def test_nothing_to_run_is_an_error_that_says_what_writes_the_files(tmp_path, capsys):
    settings = {"Preprocess": [], "label_list": ["a"], "output": "boxes", "versions": {"ppdet": "7.1", "paddle": 3}}
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump(settings, sort_keys=False))
    code, text = verify(tmp_path, capsys)
    assert code == 1
    assert text.count("unavailable") == 12 and "no engine on this machine can run the folder" in text
    command_ = "ppdet export RUN --format onnx openvino paddle --precision fp16"
    assert f": no file in the folder: {command_} writes all of them\n" in text
    quantized = "onnxruntime in int8, openvino in int8: no file in the folder: ppdet export RUN --format onnx openvino"
    assert f"missing: {quantized} --precision int8 writes all of them\n" in text
    assert text.count("ppdet export RUN") == 2
    assert "exported by ppdet 7.1, paddle 3\n" in text and "because the graphs end with boxes" in text
    assert "`ppdet detect`, the server and batch jobs refuse this folder" in text
    assert os.listdir(tmp_path) == ["infer_cfg.yml"]


def test_the_command_keeps_what_is_there(tmp_path):
    """Export replaces the folder's files, so that the command names all of its formats."""
    assert backends.export_command(tmp_path, ["paddle"], "fp32") == "ppdet export RUN --format paddle"
    assert backends.export_command(tmp_path, ["openvino"], "bf16") == "ppdet export RUN --format openvino"
    (tmp_path / "model_tensorrt.onnx").touch()  # which --format onnx does not write
    expected = "ppdet export RUN --format openvino --target tensorrt"
    assert backends.export_command(tmp_path, ["openvino"], "fp32") == expected
    (tmp_path / "model_tensorrt.onnx").unlink()
    for name in ("model.xml", "model_fp16.onnx"):
        (tmp_path / name).touch()
    expected = "ppdet export RUN --format onnx openvino --precision fp16"
    assert backends.export_command(tmp_path, ["onnx"], "fp32") == expected
    (tmp_path / "triton" / "name").mkdir(parents=True)
    (tmp_path / "model_tensorrt.onnx").touch()
    expected = "ppdet export RUN --format onnx openvino triton --precision fp16 --target tensorrt"
    assert backends.export_command(tmp_path, ["onnx"], "fp16") == expected
    expected = "ppdet export RUN --format onnx openvino triton --precision int8 --target tensorrt"
    assert backends.export_command(tmp_path, ["onnx"], "int8") == expected


def test_an_engine_that_is_not_installed_is_missing(exported, capsys, monkeypatch):
    monkeypatch.setattr(engine_check, "is_installed", lambda package: False)
    monkeypatch.setattr(backends, "is_installed", lambda package: False)
    code, text = verify(exported, capsys)
    assert code == 1 and "missing: onnxruntime in fp32: it is not installed: pip install" in text
    assert "missing: paddle in fp16: no fp16 on cpu: it has fp32, bf16\n" in text  # pip brings none, nor an export
    assert "missing: onnxruntime in bf16: no bf16 on cpu: it has fp32, fp16, int8\n" in text


def test_no_exported_folder_is_one_line(tmp_path, capsys, monkeypatch):
    """Nothing is printed before it."""
    (tmp_path / "file").touch()
    wrote = "expected a folder that `ppdet export` wrote\n"
    for name in ("missing", "file"):
        expected = f"error: {tmp_path / name}: no such folder: {wrote}"
        assert verify(tmp_path / name, capsys) == (2, expected)
    assert verify(tmp_path, capsys) == (2, f"error: {tmp_path}/infer_cfg.yml: no such file: {wrote}")
    (tmp_path / "infer_cfg.yml").write_text("Preprocess: []")
    (tmp_path / "selfcheck.npz").write_bytes(b"PK half a file")
    code, text = verify(tmp_path, capsys)
    assert code == 2 and text.startswith(f"error: {tmp_path}/selfcheck.npz: damaged (") and text.count("\n") == 1
    monkeypatch.setattr(compare, "open_regular", refuse)
    assert verify(tmp_path, capsys) == (2, f"error: {tmp_path}/selfcheck.npz: cannot be read: Permission denied\n")


def test_a_device_that_no_engine_has_is_one_line(exported, capsys):
    code, text = verify(exported, capsys, "--device", "foo")
    assert code == 2 and text.startswith("error: no engine on this machine computes on foo: paddle: ")
    assert "; onnxruntime: no device of type foo: it has cpu, gpu; openvino: it sees no FOO" in text
    assert text.count("\n") == 1


def refuse(path):
    raise PermissionError(13, "Permission denied", str(path))
