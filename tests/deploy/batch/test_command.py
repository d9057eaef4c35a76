"""The command as users type it: help, mistakes, and a job that is killed and started again."""

import contextlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from batch_runs import BatchRun

from ppdet.deploy.batch import __main__ as command
from ppdet.deploy.batch.job import run_batch
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DeployError

COPIES, SHARD = 12, 16


def test_help_and_mistakes(model, images, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        command.main(["--help"])
    assert end.value.code == 0 and "s3://bucket/photos" in capsys.readouterr().out
    options = {"--model_dir": str(model), "--input": str(images.folder), "--output": str(tmp_path / "out")}
    for change, message in (
        ({"--model_dir": str(tmp_path)}, "infer_cfg.yml: no such file"),
        ({"--input": str(tmp_path / "missing")}, "missing: no such file or folder"),
        ({"--threshold": "2"}, "expected a number from 0 to 1"),
        ({"--device": "xpu"}, "batch jobs take cpu, or gpu"),
        ({"--name_column": "n"}, "--name_column needs --bytes_column"),
        ({"--tta_merge": "nms"}, "--tta_merge has no effect without --tta"),
        ({"--match_metric": "iou"}, "--match_metric has no effect without --slice_infer"),
    ):
        with pytest.raises(SystemExit) as end:
            command.main([part for pair in {**options, **change}.items() for part in pair])
        assert end.value.code == 2 and message in capsys.readouterr().err


def test_options_of_views_and_windows_reach_the_workers(model, images, tmp_path, monkeypatch):
    """The job is one with these settings, and its workers get them."""
    jobs = []
    monkeypatch.setattr("ppdet.deploy.batch.job.run_batch", jobs.append)
    given = ["--model_dir", str(model), "--input", str(images.folder), "--output", str(tmp_path / "out")]
    command.main([*given, "--tta", "--tta_scales", "1", "0.5", "--tta_iou", "0.7"])
    command.main([*given, "--slice_infer", "--slice_size", "480", "640", "--combine_method", "concat"])
    command.main(given)
    assert [job.tta for job in jobs] == [TTA((1.0, 0.5), iou=0.7), None, None]
    slicing = Slicing(size=(480, 640), combine="concat")
    assert [job.slicing for job in jobs] == [None, slicing, None]

    def pool(settings, *_):
        raise DeployError(f"tta={settings.tta} slicing={settings.slicing}")

    monkeypatch.setattr("ppdet.deploy.batch.job.WorkerPool", pool)
    monkeypatch.setattr("ppdet.deploy.batch.job.ray_session", lambda *_: contextlib.nullcontext())
    with pytest.raises(
        DeployError, match=r"tta=4 views, scales 1 0.5, flip horizontal, merged by weighted from IoU 0.7"
    ):
        run_batch(jobs[0])
    with pytest.raises(DeployError, match=r"slicing=windows of 480x640, overlap 0\.25 0\.25, concat"):
        run_batch(jobs[1])
    with pytest.raises(DeployError, match=r"TTA .* takes whole images"):
        run_batch(replace(jobs[0], slicing=slicing))


def test_a_missing_package_is_named(model, images, tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    with pytest.raises(SystemExit) as end:
        command.main(["--model_dir", str(model), "--input", str(images.folder), "--output", str(tmp_path / "out")])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: ray is not installed: pip install ray\n"


def test_worker_killed_then_everything_killed_then_started_again(model, images, tmp_path):
    # Links: the same images under other names.
    sources = images.names * COPIES
    names = [f"{i:03d}_{Path(source).name}" for i, source in enumerate(sources)]
    (tmp_path / "images").mkdir()
    for name, source in zip(names, sources):
        (tmp_path / "images" / name).symlink_to(images.folder / source)
    (tmp_path / "list.txt").write_text("\n".join(names))
    arguments = ["--model_dir", str(model), "--input", str(tmp_path / "list.txt"), "--workers", "2"]
    arguments += ["--image_dir", str(tmp_path / "images"), "--shard_size", str(SHARD), "--backend", "onnxruntime"]
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
    steps = [line.partition("] ")[2].partition("] ")[2] for line in log.splitlines()[:3]]
    assert steps == [f"listing the images of {tmp_path / 'list.txt'}", "starting Ray", "loading the model"]
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
