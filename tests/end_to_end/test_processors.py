"""The commands on a processor without AVX-512, which is what ONEDNN_MAX_CPU_ISA makes of any."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY_YAML, write_tiny_coco

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "ONEDNN_MAX_CPU_ISA": os.environ.get("ONEDNN_MAX_CPU_ISA", "AVX2")}


def run(*arguments, code=0):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The configuration and weights of a detector trained with --amp, and what the command printed."""
    folder = tmp_path_factory.mktemp("run")
    write_tiny_coco(folder / "data")
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=folder / "data"))
    log = run("tools/train.py", "-c", folder / "tiny.yml", "--amp", "-o", "epoch=1")
    options = [f"weights={folder}/output/tiny/model_final", "FCOSHead.nms.score_threshold=0.001"]
    return folder, ["-c", folder / "tiny.yml", "-o", *options], log


def test_training_with_amp_computes_in_float32_and_says_so(trained):
    _, _, log = trained
    assert "amp: training in float32: bfloat16 needs oneDNN and a processor with AVX-512 BF16 or AMX" in log
    assert "CPU layers: oneDNN" in log and "trained 4 steps" in log


def test_engines_detect_what_was_trained(trained, tmp_path):
    folder, arguments, _ = trained
    pytest.importorskip("openvino")
    image = folder / "data" / "images" / "001.png"
    log = run("tools/export_model.py", *arguments, "--format", "openvino", "--output_dir", tmp_path)
    assert "checked in paddle, fp32" in log and "checked in openvino, fp32" in log
    # Paddle has no bfloat16 here, OpenVINO computes in float32 in its place: "auto" takes what runs.
    for options in (["--backend", "auto"], ["--backend", "auto", "--precision", "bf16"]):
        detect = ["--model_dir", tmp_path / "tiny", "--image_file", image, "--output_dir", tmp_path / "found"]
        log = run("deploy/python/infer.py", *detect, "--threshold", "0.001", *options)
        assert (tmp_path / "found" / "001.png").is_file()
    assert "backend paddle: " in log and "has no bfloat16" in log


def test_an_export_in_bfloat16_is_refused_in_one_line(trained, tmp_path):
    _, arguments, _ = trained
    log = run("tools/export_model.py", *arguments, "--precision", "bf16", "--output_dir", tmp_path, code=2)
    (error,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert "paddle, bf16" in error and "use precision fp32 if the processor has no bfloat16 (AVX-512)" in error
    assert not list((tmp_path / "tiny").glob("model*"))
