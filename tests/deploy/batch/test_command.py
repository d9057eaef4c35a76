"""The command as users type it: help, mistakes, and a job that is killed and started again."""

import os
import subprocess
from pathlib import Path

import pytest
from batch_runs import COMMAND, ROOT, BatchRun

COPIES, SHARD = 30, 32


def test_help_and_mistakes(model, images, tmp_path):
    run = subprocess.run([*COMMAND, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and "s3://bucket/photos" in run.stdout
    options = {"--model_dir": str(model), "--input": str(images.folder), "--output": str(tmp_path / "out")}
    for change, message in (
        ({"--model_dir": str(tmp_path)}, "infer_cfg.yml: no such file"),
        ({"--input": str(tmp_path / "missing")}, "missing: no such file or folder"),
        ({"--threshold": "2"}, "expected a score from 0 to 1"),
    ):
        arguments = [part for pair in {**options, **change}.items() for part in pair]
        run = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 2 and message in run.stderr and "Traceback" not in run.stderr


def test_a_missing_package_is_named(model, images, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'ray' else find(name, *more)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    arguments = ["--model_dir", str(model), "--input", str(images.folder), "--output", str(tmp_path / "out")]
    run = subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 2 and run.stderr == "error: batch jobs need ray[data]: pip install 'ray[data]'\n"


def test_worker_killed_then_everything_killed_then_started_again(model, images, tmp_path):
    # Links: the same images under other names.
    sources = images.names * COPIES
    names = [f"{i:03d}_{Path(source).name}" for i, source in enumerate(sources)]
    (tmp_path / "images").mkdir()
    for name, source in zip(names, sources):
        (tmp_path / "images" / name).symlink_to(images.folder / source)
    (tmp_path / "list.txt").write_text("\n".join(names))
    arguments = ["--model_dir", str(model), "--input", str(tmp_path / "list.txt"), "--workers", "2"]
    arguments += ["--image_dir", str(tmp_path / "images"), "--shard_size", str(SHARD), "--backend", "paddle"]
    run = BatchRun(tmp_path / "out", arguments)

    run.start()
    run.wait_for(run.finished)
    finished = len(run.finished())
    run.kill_worker()
    run.wait_for(lambda: len(run.finished()) > finished)
    run.kill()
    kept = run.finished()
    assert 0 < len(kept) < len(names) / SHARD, run.log.read_text()
    assert "Traceback" not in run.log.read_text()

    run.start()
    log = run.finish()
    assert f"going on: {SHARD * len(kept)} of {len(names)} images are done" in log and "Traceback" not in log
    assert {name: time for name, time in run.finished().items() if name in kept} == kept
    rows = run.rows()
    assert [(row["image_id"], row["file_name"]) for row in rows] == list(enumerate(names))
    for row, source in zip(rows, sources):
        if source in images.broken:
            assert row["error"] and not row["scores"]
        else:
            assert row["error"] is None
            assert row["scores"] == pytest.approx(images.expected[source].scores.tolist(), abs=1e-4)
    assert not list(run.output.rglob(".*"))
