"""Two CPU processes train and evaluate as one."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY_YAML, write_tiny_coco

from ppdet.engine.weights import read_arrays

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    write_tiny_coco(folder / "data", images=7)
    text = TINY_YAML.format(output=folder / "output", data=folder / "data")
    # Batch norm would see other batches; group norm makes two halves equal to the whole.
    (folder / "tiny.yml").write_text(text.replace("ResNet: {", "ResNet: {norm_type: gn, "))
    return folder / "tiny.yml"


def launch(folder, *arguments, processes=2):
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--backend", "gloo"]
    launcher += ["--log_dir", str(folder / "log")]
    command = [sys.executable, *(launcher if processes > 1 else []), *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, (result.stdout + result.stderr)[-3000:]
    return result.stdout + result.stderr


def test_two_processes_are_one(config, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["epoch=1", "LearningRate.schedulers=[]"]
    launch(tmp_path, "tools/train.py", "-c", config, "-o", *options, f"save_dir={one}", processes=1)
    log = launch(
        *(tmp_path, "tools/train.py", "-c", config, "--eval"),
        *("-o", *options, f"save_dir={two}", "TrainReader.batch_size=1"),
    )
    assert "2 images per step on 2 device(s)" in log
    assert len(re.findall(r"\] \[INFO\] Epoch: \[1/1\] \[1/3\]", log)) == 1, "one line a step, not one a rank"
    whole, halves = (read_arrays(folder / "tiny" / "model_final.pdparams") for folder in (one, two))
    start = read_arrays_of_a_fresh_model(config)
    for name, value in whole.items():
        moved = np.abs(value - start[name]).max()
        assert np.abs(value - halves[name]).max() <= 1e-3 * moved + 1e-6, name

    weights = f"weights={two}/tiny/model_final"
    options = ["-o", weights, "FCOSHead.nms.score_threshold=0.0"]
    tables = [
        re.findall(
            r"maxDets= *\d+ \] = (-?[\d.]+)", launch(tmp_path, "tools/eval.py", "-c", config, *options, processes=n)
        )
        for n in (1, 2)
    ]
    assert len(tables[0]) == 12 and tables[0] == tables[1]


def test_evaluation_on_the_fly_is_that_of_the_saved_weights(config, tmp_path):
    """Batch norm sees other images on each rank; what is evaluated and what is saved is one model all the same."""
    text = config.read_text().replace("norm_type: gn, ", "")
    bn = tmp_path / "tiny.yml"
    bn.write_text(text)
    options = ["epoch=4", "snapshot_epoch=4", "use_ema=true", "LearningRate.base_lr=0.02", "TrainReader.batch_size=1"]
    log = launch(tmp_path, "tools/train.py", "-c", bn, "--eval", "-o", f"save_dir={tmp_path}", *options)
    numbers = r"maxDets= *\d+ \] = (-?[\d.]+)"
    evaluated = launch(tmp_path, "tools/eval.py", "-c", bn, "-o", f"weights={tmp_path}/tiny/model_final", processes=1)
    assert len(re.findall(numbers, log)) == 12
    assert re.findall(numbers, log) == re.findall(numbers, evaluated)


def read_arrays_of_a_fresh_model(config):
    import paddle

    from ppdet.core.workspace import load_config

    paddle.seed(0)
    model = load_config(str(config)).create("FCOS")
    return {name: value.numpy() for name, value in model.state_dict().items()}
