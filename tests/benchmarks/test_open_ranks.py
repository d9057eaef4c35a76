"""Opening a large data set on several ranks: the parts of the benchmark; a launched job takes too long for a test."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import open_ranks

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_dataset

linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the kernel has no smaps_rollup")


def test_the_configuration_trains_one_step_on_the_images_that_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(open_ranks, "LINKS", 3)
    open_ranks.make_images(tmp_path / "images", 7)
    open_ranks.write_annotations(tmp_path / "large.json", 7, 40)
    inodes = [path.stat().st_ino for path in sorted((tmp_path / "images").iterdir())]
    assert len(inodes) == 7 and len(set(inodes)) == 3
    config = tmp_path / "large.yml"
    text = open_ranks.CONFIG.format(root=open_ranks.ROOT, classes=80, folder=tmp_path, file="large.json")
    config.write_text(text)
    cfg = load_config(str(config))
    assert (cfg["max_iters"], cfg["worker_num"]) == (1, 1)
    records = build_dataset(cfg, "TrainDataset").records
    assert all(Path(record["im_file"]).is_file() for record in records)
    assert sum(len(record["gt_bbox"]) for record in records) == 40


@linux
def test_memory_is_that_of_a_process_and_its_children():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(0, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"0\n"
        family = open_ranks.processes_from(parent.pid)
        assert (
            family[0] == parent.pid and len(family) == 2 and set(family) <= set(open_ranks.processes_from(os.getpid()))
        )
        mine, both = open_ranks.memory_mib([parent.pid]), open_ranks.memory_mib(family)
        assert both > mine > 1  # MiB
        parent.communicate(b"\n")
    assert open_ranks.memory_mib(family) == 0


def test_a_run_that_fails_ends_the_benchmark_with_its_message(tmp_path, monkeypatch):
    monkeypatch.setattr(open_ranks.sys, "executable", "/bin/false")
    with pytest.raises(SystemExit, match="exit code 1"):
        open_ranks.train(tmp_path / "none.yml", 1, tmp_path)
