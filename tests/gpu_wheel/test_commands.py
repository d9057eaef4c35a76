"""Every command works with a GPU build of Paddle without a GPU, with one message if it wants a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY_YAML, write_tiny_coco

ROOT = Path(__file__).resolve().parents[2]
PADDLES = "is not set properly"  # Paddle's own warning of the missing device


def run(*command: object, code: int = 0) -> str:
    """What a command prints."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == code, done.stdout[-4000:]
    assert PADDLES not in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of a run of one epoch, and what its command printed. The configuration asks for a GPU, as all do."""
    folder = tmp_path_factory.mktemp("commands")
    data = write_tiny_coco(folder / "data", images=4)
    text = TINY_YAML.format(output=folder / "output", data=data).replace("use_gpu: false\n", "use_gpu: true\n")
    (folder / "tiny.yml").write_text(text)
    printed = run("tools/train.py", "-c", folder / "tiny.yml", "--eval", "-o", "epoch=1", "snapshot_epoch=1")
    return folder, printed


@pytest.fixture(scope="module")
def exported(trained):
    folder, _ = trained
    printed = run("tools/export_model.py", folder / "output" / "tiny", "--output_dir", folder / "exported")
    return folder / "exported" / "tiny", printed


def says_once(printed: str) -> None:
    lines = [line for line in printed.splitlines() if "running on the CPU" in line]
    assert len(lines) == 1 and "GPU" in lines[0], printed


def test_train(trained):
    says_once(trained[1])
    assert "AP after epoch 1" in trained[1]


def test_profile(trained):
    """Paddle's profiler raises CUDA's error 35 there."""
    options = ("--profiler_options", "batch_range=[1,2]", "-o", f"save_dir={trained[0]}/profiled")
    printed = run("tools/train.py", "-c", trained[0] / "tiny.yml", *options, code=2)
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert "timer_only=True" in line and "Traceback" not in printed


def test_evaluate(trained):
    says_once(run("tools/eval.py", trained[0] / "output" / "tiny"))


def test_infer(trained):
    folder, _ = trained
    image = folder / "data" / "images" / "001.png"
    command = ("tools/infer.py", folder / "output" / "tiny", "--infer_img", image, "--output_dir", folder / "pictures")
    says_once(run(*command))


def test_export(exported):
    folder, printed = exported  # an export is made on the CPU, whatever there is
    assert (folder / "model.pdmodel").is_file() and "checked in paddle" in printed


def test_deployed(trained, exported):
    image = trained[0] / "data" / "images" / "001.png"
    command = ("deploy/python/infer.py", "--model_dir", exported[0], "--image_file", image)
    assert "1 image in" in run(*command, "--output_dir", trained[0] / "deployed")
    printed = run(*command, "--device", "gpu", "--output_dir", trained[0] / "on_gpu", code=2)
    (line,) = (line for line in printed.splitlines() if line.startswith("error: "))
    assert "sees 0 devices of type gpu" in line
