"""Training that is asked to end: it saves, leaves with the code schedulers expect, and goes on as if nothing was."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY_YAML, write_tiny_coco

from ppdet.engine.weights import read_arrays

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["epoch=3", "use_ema=true", "TrainReader.batch_size=1", "worker_num=1", "snapshot_epoch=3"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stop")
    write_tiny_coco(folder / "data")
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=folder / "data"))
    return folder / "tiny.yml"


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    with start(config, folder) as process:
        assert process.wait() == 0
    return folder


def start(config, folder, *more):
    command = [sys.executable, "tools/train.py", "-c", str(config), *more, "-o", *OPTIONS, f"save_dir={folder}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on(config, unbroken, tmp_path, number, code):
    with start(config, tmp_path) as process:
        for line in process.stdout:
            if "[2/8]" in line:  # second step of the first epoch
                process.send_signal(number)
                break
        text = process.stdout.read()
        assert process.wait() == code, text
    assert f"{number.name}: finishing the step, then saving" in text
    assert "the same command with --resume auto goes on" in text
    assert "Traceback" not in text
    (manifest,) = (tmp_path / "tiny").glob("snapshot_*.json")

    with start(config, tmp_path, "-r", "auto") as process:
        text = process.stdout.read()
        assert process.wait() == 0, text
    assert f"resumed from {manifest.with_suffix('')}: 0 epochs" in text
    for suffix in ("pdparams", "pdema", "pdopt"):
        one, two = (read_arrays(folder / "tiny" / f"model_final.{suffix}") for folder in (unbroken, tmp_path))
        assert one.keys() == two.keys()
        assert all(np.array_equal(value, two[name]) for name, value in one.items()), suffix
