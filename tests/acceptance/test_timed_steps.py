"""Single training steps, the generated JPEG files, and launched jobs."""

import contextlib
import json
import os

import cv2
import numpy as np
import paddle
import pytest

from ppdet.acceptance import timed_steps
from ppdet.acceptance.checks.memory_checks import crop
from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.jpeg_dataset import write_jpeg_dataset
from ppdet.acceptance.launched_jobs import job_environment, launched
from ppdet.acceptance.outcomes import Failed
from ppdet.core.workspace import load_config


def test_photographs_are_a_data_set_of_real_files(tmp_path):
    write_jpeg_dataset(tmp_path, count=3, size=(384, 640))
    content = json.loads((tmp_path / "train.json").read_text())
    assert len(content["images"]) == 3 and len(content["categories"]) == 80
    for image in content["images"]:
        path = tmp_path / "images" / image["file_name"]
        assert cv2.imread(str(path)).shape == (image["height"], image["width"], 3) == (384, 640, 3)
        assert 60_000 < path.stat().st_size < 200_000  # bytes of a photograph of this size
    boxes = np.array([a["bbox"] for a in content["annotations"]])
    assert len(boxes) == 21 and (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > 10).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= [640.001, 384.001]).all()
    assert {a["category_id"] for a in content["annotations"]} <= set(range(1, 81))


@pytest.fixture
def trainer(tiny):
    options = ["use_onednn=false", "TrainReader.batch_size=1", "auto_lr=null", "LearningRate.schedulers=[]"]
    return timed_steps.ready_trainer(load_config(tiny, options))


def weights(trainer):
    return [parameter.numpy() for parameter in trainer.model.parameters()]


def test_a_step_without_the_guard_is_the_optimizers_own(trainer):
    batch = timed_steps.first_batch(trainer)
    before = {name: value.numpy() for name, value in trainer.model.state_dict().items()}
    ends = []
    guard = trainer.guard
    for context in (contextlib.nullcontext(), timed_steps.without_guard(trainer)):
        trainer.model.set_state_dict({name: paddle.to_tensor(value) for name, value in before.items()})
        trainer.optimizer = trainer.cfg.create("OptimizerBuilder")(0.1, trainer.model)
        guard.optimizer, trainer.iteration = trainer.optimizer, 0
        with context:
            assert (trainer.guard is guard) == (not ends)
            timed_steps.run_step(trainer, batch)
        ends.append(weights(trainer))
    assert trainer.guard is guard
    assert all(np.array_equal(one, other) for one, other in zip(*ends))
    assert any((one != before[name]).any() for one, name in zip(ends[0], before))


def test_without_the_guard_nothing_is_taken_back(trainer):
    batch = timed_steps.first_batch(trainer)
    batch["image"][0, 0, 3, 3] = float("nan")
    with timed_steps.without_guard(trainer):
        timed_steps.run_step(trainer, batch)
    assert any(np.isnan(value).any() for value in weights(trainer))


def test_measurements_are_taken_in_turns(monkeypatch):
    """Of two functions, one gets slower: the result is the median of the rounds, without the warm-up."""
    asked, seconds = [], {"a": iter([9, 0.1, 1, 2, 6]), "b": iter([9, 1, 5, 5, 5])}

    def seconds_per_call(run, times):
        asked.append((run(), times))
        return next(seconds[run()])

    monkeypatch.setattr(timed_steps, "seconds_per_call", seconds_per_call)
    stages = {"a": lambda: "a", "b": lambda: "b"}
    assert timed_steps.median_seconds(stages, rounds=3, seconds=1.0) == {"a": 2, "b": 5}
    warm_up = [("a", timed_steps.WARM_UP), ("a", 1), ("b", timed_steps.WARM_UP), ("b", 1)]
    assert asked == warm_up + [("a", 10), ("b", 2)] * 3


def test_images_of_changing_size_have_the_targets_of_their_size(trainer):
    """The number of targets is that of the cells of the three levels, with strides 8, 16 and 32."""
    whole = timed_steps.first_batch(trainer)
    assert crop(trainer, whole, None)["image"].shape == whole["image"].shape == [1, 3, 96, 128]
    rng, sizes = np.random.default_rng(0), set()
    for _ in range(8):
        batch = crop(trainer, whole, rng)
        height, width = batch["image"].shape[2:]
        sizes.add((height, width))
        assert height % 32 == width % 32 == 0 and 32 <= height <= 96 and 64 <= width <= 128
        cells = sum(height // stride * width // stride for stride in (8, 16, 32))
        assert batch["target_labels"].shape == [1, cells] and batch["target_distances"].shape == [1, cells, 4]
        assert np.array_equal(batch["image"].numpy(), whole["image"].numpy()[:, :, :height, :width])
        assert int((batch["target_labels"] == 1).sum()) > 0
    assert len(sizes) > 2
    timed_steps.run_step(trainer, batch)
    assert np.isfinite(float(trainer.losses["loss"]))


def script(tmp_path, text):
    path = tmp_path / "script.py"
    path.write_text(text)
    return [path]


def test_a_job_that_ends_before_its_time(context, tmp_path):
    command = script(tmp_path, "print('last words'); raise SystemExit(3)")
    ended = pytest.raises(Failed, match="ended with exit code 3 before its first step")
    with launched(context, command, "short", ranks=1) as one, ended as failed:
        one.wait_for(lambda: None, "its first step", 600)
    assert failed.value.numbers == {"output": "last words\n"}


def test_a_job_that_does_not_end_is_ended(context, tmp_path):
    with launched(context, script(tmp_path, "import time\nwhile True: time.sleep(1)"), "long", ranks=1) as one:
        with pytest.raises(Failed, match="1 processes did not end within 0 s"):
            one.wait(seconds=0)
        with pytest.raises(Failed, match="waited 0 s for a checkpoint"):
            one.wait_for(lambda: None, "a checkpoint", 0)
        assert one.wait_for(lambda: "found", "something", 0) == "found"
    assert one.process.returncode is not None


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", {"PYTHONUNBUFFERED": "1", "PADDLE_DISTRI_BACKEND": "gloo", "OMP_NUM_THREADS": "1"}),
        ("gpu", {"PYTHONUNBUFFERED": "1", "NVIDIA_TF32_OVERRIDE": "0"}),
        ("npu", {"PYTHONUNBUFFERED": "1", "NVIDIA_TF32_OVERRIDE": "0", "PADDLE_XCCL_BACKEND": "npu"}),
    ],
)
def test_what_processes_of_a_job_start_with(tmp_path, device, expected):
    environment = job_environment(Context(Facts(device), quick=True, work=tmp_path))
    assert environment.pop("PYTHONPATH").split(os.pathsep)[0] == str(ROOT)
    assert environment == expected
