"""Training that is asked to end: it saves, exits with the code schedulers expect, and can be resumed without a
difference."""

import os
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, call, run
from tiny import TINY_YAML, write_tiny_coco

from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.checkpoints.weights import read_arrays

OPTIONS = ["epoch=3", "use_ema=true", "TrainReader.batch_size=1", "worker_num=1", "snapshot_epoch=3"]
# Training that stands still after two steps, so that a signal comes in the third, however busy the machine is.
TRAIN = """
import logging, os, runpy, signal, sys
sys.path.insert(0, os.getcwd())
from ppdet.utils.logger import get_logger

class Halt(logging.Handler):
    def emit(self, record):
        if "[2/8]" in record.getMessage():
            os.kill(os.getpid(), signal.SIGSTOP)

get_logger().addHandler(Halt())
runpy.run_path("tools/train.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stop")
    write_tiny_coco(folder / "data")
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=folder / "data"))
    return folder / "tiny.yml"


@pytest.fixture(scope="module")
def unbroken(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    # In a process, as the stopped run: what other tests did in this one, as with threads, moves last bits.
    run("tools/train.py", "-c", config, "-o", *OPTIONS, f"save_dir={folder}")
    return folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on(config, unbroken, tmp_path, number, code):
    command = [sys.executable, "-c", TRAIN, "-c", str(config), "-o", *OPTIONS, f"save_dir={tmp_path}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert any("[2/8]" in line for line in process.stdout)  # second step of the first epoch
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        text = process.stdout.read()
        assert process.wait() == code, text
    assert f"{number.name}: finishing the step, then saving" in text
    assert "the same command with -r auto continues the run" in text
    again = shlex.split(text.split("continue with: ")[1].splitlines()[0])
    assert again[-11:] == ["-c", str(config), "-o", *OPTIONS, f"save_dir={tmp_path}", "-r", "auto"]
    assert "Traceback" not in text
    (manifest,) = (tmp_path / "tiny").glob("snapshot_*.json")
    assert read_verified(manifest.with_suffix("")).state.iteration in (2, 3)
    if number == signal.SIGINT:
        return  # the same snapshot as of the other signal, from which that goes on

    text = run("tools/train.py", "-c", config, "-r", "auto", "-o", *OPTIONS, f"save_dir={tmp_path}")
    assert f"resumed from {manifest.with_suffix('')}: 0 epochs" in text
    for suffix in ("pdparams", "pdema", "pdopt"):
        one, two = (read_arrays(folder / "tiny" / f"model_final.{suffix}") for folder in (unbroken, tmp_path))
        assert one.keys() == two.keys()
        assert all(np.array_equal(value, two[name]) for name, value in one.items()), suffix


KILLER = """
import os

from ppdet.core.workspace import register


@register
class Killer:
    \"\"\"Ends the process that reads image 5 by a signal.

    Args:
        number: the signal's number.
    \"\"\"

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, sample, rng):
        if int(sample["im_id"].item()) == 5:
            os.kill(os.getpid(), self.number)
        return sample
"""


@pytest.mark.parametrize(
    ("number", "advice", "options"),
    [
        (signal.SIGKILL, "perhaps because memory ran out: lower worker_num or batch_size", ["--dry_run", "-o"]),
        (signal.SIGSEGV, "a defect", ["-o"]),
        (signal.SIGSEGV, "a defect", ["-o", "worker_start=spawn"]),
    ],
)
def test_a_killed_data_worker_is_one_line(config, tmp_path, outside, number, advice, options):
    chain = f"[{{Decode: {{}}}}, {{Killer: {{number: {number}}}}}, {{NormalizeImage: {{}}}}, {{Permute: {{}}}}]"
    options = [*options, "worker_num=2", f"save_dir={tmp_path}", f"TrainReader.sample_transforms={chain}"]
    text = call("tools/train.py", "-c", config, "--import", outside("killer.py", KILLER), *options, code=2)
    *_, line = text.splitlines()
    assert line.startswith(f"error: a data worker process died (signal {number.name}), {advice}; with worker_num 0 ")
    assert str(config.with_name("data") / "images" / "005.png") in line and "Traceback" not in text
