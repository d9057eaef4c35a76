"""`ppdet doctor` describes the machine, and a part that is broken is one of its lines."""

import json

import pytest

from ppdet.cli import doctor


def test_this_machine_can_train(capsys):
    doctor.main(["--json"])
    findings = {finding["topic"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"python", "ppdet", "paddle", "libraries", "devices", "CPU layers", "memory", "disk"} <= set(findings)
    assert not [finding for finding in findings.values() if finding["level"] == "broken"]
    assert not [finding for finding in findings.values() if "cannot be checked" in finding["text"]]


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
