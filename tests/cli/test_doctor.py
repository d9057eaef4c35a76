"""`ppdet doctor` describes the machine, and a part that is broken is one of its lines."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from ppdet.cli import detect, doctor, evaluate, export, quickstart, train
from ppdet.core.command_line import one_line_errors
from ppdet.utils.process.paddle_setup import load_paddle


def test_this_machine_can_train(capsys):
    doctor.main(["--json"])
    findings = {finding["topic"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"python", "ppdet", "paddle", "libraries", "devices", "CPU layers", "memory", "disk"} <= set(findings)
    assert not [finding for finding in findings.values() if finding["level"] == "broken"]
    assert not [finding for finding in findings.values() if "cannot be checked" in finding["text"]]


def test_the_check_of_the_layers_runs_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("PPDET_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "cpu_layers" / "0.json"
    kept.parent.mkdir()
    kept.write_text('{"difference": 0.0}')
    assert doctor.examine([doctor.processor]) and not kept.exists()


def test_slow_and_missing_parts_come_with_advice(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("ppdet.utils.process.cpu.cpu_count", lambda: 8)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("ppdet.utils.device.supported_types", lambda: ["cpu"])
    found = {finding.topic: finding for finding in doctor.examine((doctor.processor, doctor.devices))}
    assert found["threads"].level == "slow" and "set it to 8" in found["threads"].advice
    assert found["devices"].level == "slow" and "paddlepaddle-gpu" in found["devices"].advice
    monkeypatch.setattr("ppdet.utils.device.supported_types", lambda: ["cpu", "gpu"])
    monkeypatch.setattr("ppdet.utils.device.count", lambda kind: 0)
    [hidden] = doctor.devices()
    assert hidden.level == "missing" and "CUDA_VISIBLE_DEVICES" in hidden.advice


def test_a_python_that_is_too_old_and_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 18))
    monkeypatch.setenv("PPDET_WEIGHTS_HOME", str(tmp_path / "weights"))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path)  # root may write everywhere
    found = {finding.topic: finding for finding in (*doctor.python(), *doctor.downloads_and_workers())}
    assert found["python"].level == "broken" and "3.10 to 3.13" in found["python"].advice
    assert found["downloads"].level == "missing" and found["downloads"].text == f"{tmp_path} cannot be written"


def test_what_training_cannot_do_without_ends_with_1(monkeypatch, capsys):
    def absent():
        raise OSError("no such sensor")
        yield

    monkeypatch.setitem(doctor.REQUIRED, "no-such-package", "no_such_module")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.libraries, absent))
    with pytest.raises(SystemExit) as end:
        doctor.main([])
    lines = capsys.readouterr().out.splitlines()
    assert end.value.code == 1
    assert "no-such-package BROKEN: ModuleNotFoundError: No module named 'no_such_module'" in lines
    assert "             -> pip install --force-reinstall no-such-package" in lines
    assert "absent       MISSING: cannot be checked: OSError: no such sensor" in lines


def test_a_broken_paddle_is_one_line_of_the_report_and_of_every_command(monkeypatch, tmp_path, capsys):
    (tmp_path / "paddle.py").write_text('raise OSError("libcudnn.so.8: cannot open shared object file")')
    monkeypatch.delitem(sys.modules, "paddle")
    monkeypatch.syspath_prepend(tmp_path)
    [finding] = doctor.examine((doctor.paddle_itself, doctor.devices, doctor.processor))
    assert (finding.topic, finding.level) == ("paddle", "broken") and "libcudnn.so.8" in finding.text
    with pytest.raises(SystemExit, match="2"), one_line_errors():
        load_paddle()
    error = capsys.readouterr().err
    assert error.startswith("error: paddle cannot be loaded: libcudnn.so.8: cannot open") and "`ppdet doctor`" in error


def test_without_paddle_a_command_says_what_to_install_before_it_writes(monkeypatch, tmp_path, capsys):
    installed = importlib.util.find_spec("paddle").submodule_search_locations[0]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(Path(installed).parent)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "paddle"]:
        monkeypatch.delitem(sys.modules, name)
    for command, arguments in ((quickstart, ["--output", "new"]), (export, ["new"])):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match="2"):
            command.main([*arguments])
        advice = "pip install paddlepaddle, or the build for your GPU (docs/GPU.md)"
        assert capsys.readouterr().err == f"error: paddle is not installed: {advice}\n"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "is_resumed"), [((), False), (("run.json",), True), (("run.json", "model_final.x"), False)]
)
def test_the_quick_start_continues_a_stopped_training(monkeypatch, tmp_path, files, is_resumed):
    monkeypatch.chdir(tmp_path)
    quickstart.RUN.mkdir(parents=True)
    for name in files:
        (quickstart.RUN / name).touch()
    calls = []
    monkeypatch.setattr(quickstart, "generate_images", lambda: None)
    for command, function in ((train, "main"), (export, "export"), (detect, "main"), (evaluate, "main")):
        monkeypatch.setattr(command, function, calls.append)
    quickstart.main(["-o", "epoch=2"])
    assert calls[0] == ["-c", quickstart.NAME, *(["-r", "auto"] if is_resumed else []), "-o", "epoch=2"]
    assert len(calls) == 4
