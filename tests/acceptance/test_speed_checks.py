"""Checks of speed, memory and several cards measure what they claim, and each finds its own fault.

They run on a CPU, through the branches for asynchronous devices, with a small detector.
"""

import contextlib
import types

import pytest
from broken import change, run, short_context

from ppdet.acceptance import timed_steps
from ppdet.acceptance.checks import cards_checks, memory_checks, speed_checks, training_checks
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts
from ppdet.acceptance.outcomes import Failed
from ppdet.engine.training.guard import StepGuard
from ppdet.engine.training.loss_scale import LossScale
from ppdet.engine.training.precision import Precision
from ppdet.modeling import cpu
from ppdet.modeling.architectures.dense_teacher import StudentAndTeacher
from ppdet.utils import device

SMALL = [
    "use_onednn=false",
    "ResNet={depth: 18, num_stages: 3, return_idx: [1, 2], freeze_at: -1, freeze_norm: false}",
    "FPN={out_channel: 32, extra_stage: 1}",
    "FCOSHead.fcos_feat={name: FCOSFeat, feat_in: 32, feat_out: 32, num_convs: 1}",
    "FCOSHead.fpn_stride=[8,16,32]",
    "TrainReader.batch_transforms.2.Gt2FCOSTarget={object_sizes_boundary: [40, 80], center_sampling_radius: 1.5,"
    " downsample_ratios: [8, 16, 32], norm_reg_targets: true}",
]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timed_steps, "STABLE", [*timed_steps.STABLE, *SMALL])
        patch.setattr(timed_steps, "WARM_UP", 1)
        patch.setattr(memory_checks, "QUICK_INTERVAL", 3)
        patch.setattr(device, "runs_behind_host", lambda: True)
        patch.setattr(device, "synchronize", lambda: None)  # a CPU has none
        yield Context(Facts("cpu"), quick=True, work=tmp_path_factory.mktemp("speed"))


def test_the_guards_share_is_that_of_steps_without_it(context, monkeypatch):
    """Time is simulated: a step takes 4 units, and a guarded update one more."""
    guarded = []
    change(monkeypatch, StepGuard, "update", lambda right: lambda *given: (guarded.append(1), right(*given))[1])

    def median_seconds(runs, **_):
        counted = {}
        for name, one in runs.items():
            guarded.clear()
            one()
            counted[name] = 4.0 + len(guarded)
        return counted

    monkeypatch.setattr(speed_checks, "median_seconds", median_seconds)
    result = run("speed/float32", context)
    assert result.status == "pass" and result.numbers["guard_share"] == 0.25, result
    assert "guard +25.0% (not judged in a quick run)" in result.detail


def test_the_reader_is_timed_beside_steps_on_one_batch(context, monkeypatch):
    """Time is simulated: a step takes 1 unit, and reading a batch 2 more."""
    now = [0.0]

    class Slow:
        def __init__(self, reader):
            self.reader, self.batch_size = reader, reader.batch_size

        def __len__(self):
            return len(self.reader)

        def __iter__(self):
            for batch in self.reader:
                now[0] += 2.0
                yield batch

    def with_slow_reader(*given):
        trainer = timed_steps.ready_trainer(*given)
        trainer.reader = Slow(trainer.reader)
        return trainer

    def step(trainer, batch):
        now[0] += 1.0

    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(speed_checks, "time", clock)
    monkeypatch.setattr(timed_steps, "time", clock)
    monkeypatch.setattr(speed_checks, "ready_trainer", with_slow_reader)
    monkeypatch.setattr(speed_checks, "run_step", step)
    result = run("speed/reader", context)
    assert result.status == "pass", result
    assert result.numbers["ms_per_step_of_one_batch"] == 1000 and result.numbers["ms_per_step_of_read_batches"] == 3000
    assert result.numbers["seconds_waited_for_data"] == 2.0 * result.numbers["steps"] > 0


def test_float16_begins_with_a_scale_of_1(context, monkeypatch):
    """With the usual initial scale, the first updates would be infinite without the guard, and skipped with it."""

    def wrap(right):
        def with_scale(self, *given, **options):
            right(self, *given, **options)
            self.loss_scale = LossScale()

        return with_scale

    change(monkeypatch, Precision, "__init__", wrap)
    trainer = timed_steps.ready_trainer(timed_steps.r50_config(context))
    assert trainer.state(0, 0).loss_scale["scale"] == 1.0


def test_steps_without_reads_pass(context):
    """The log has a line after every third of 7 steps. The first three steps and those with a line are not watched."""
    result = run("memory/reads", context)
    assert result.status == "pass" and result.numbers["steps"] == 2, result


def test_a_read_in_a_step_is_found(context, monkeypatch):
    def wrap(right):
        def update(self, *given):
            right(self, *given)
            float(self.optimizer._parameter_list[0].sum())

        return update

    change(monkeypatch, StepGuard, "update", wrap)
    result = run("memory/reads", context)
    assert result.status == "fail" and result.detail.startswith("in 2 steps "), result


def test_a_run_of_which_no_step_is_watched_proves_nothing(context, monkeypatch):
    monkeypatch.setattr(memory_checks, "QUICK_INTERVAL", 1)
    result = run("memory/reads", context)
    assert result.status == "fail" and result.detail.startswith("no step was watched"), result


@pytest.mark.parametrize("kept", [0, 40])
def test_memory_that_grows_with_each_step_is_found(context, monkeypatch, kept):
    """`kept` MiB of memory are lost per step. The images do change their size."""
    sizes = []

    def step(trainer, batch):
        sizes.append(tuple(batch["image"].shape[2:]))

    monkeypatch.setattr(memory_checks, "run_step", step)
    monkeypatch.setattr(memory_checks, "memory_in_use", lambda: {"host": 1000 + kept * len(sizes)})
    result = run("memory/sizes", context)
    assert result.status == ("fail" if kept else "pass"), result
    assert len(sizes) == 40 and len(set(sizes)) > 3 and max(sizes) == sizes[0]


@pytest.mark.parametrize(("name", "norms"), [("losses", ["gn", "gn"]), ("sync_bn", ["bn", "sync_bn"])])
@pytest.mark.parametrize("apart", [0.0, 0.01])
def test_two_cards_are_compared_with_one(tmp_path, monkeypatch, name, norms, apart):
    """The two runs have the right number of ranks and norm layers, and their losses are compared."""
    asked = []

    def train(context, run, ranks, norm):
        asked.append((ranks, norm))
        return {"losses": [2.0, 1.5 + apart * (ranks == 2)], "memory": None}

    monkeypatch.setattr(cards_checks, "train", train)
    result = run(f"cards/{name}", Context(Facts("gpu", cards=2), quick=True, work=tmp_path))
    assert asked == [(1, norms[0]), (2, norms[1])]
    assert result.status == ("fail" if apart else "pass"), result


def test_a_job_that_fails_is_no_loss(tmp_path, monkeypatch):
    """The two ranks share four images, and their output is in the report."""

    class Job:
        def wait(self, seconds):
            return 7

        def output(self):
            return "words of both ranks"

    context, started = Context(Facts("cpu"), quick=True, work=tmp_path), []
    monkeypatch.setattr(
        cards_checks, "config_file", lambda context, name, more: started.append(more) or tmp_path / "x.yml"
    )
    monkeypatch.setattr(cards_checks, "launched", lambda *given, **options: contextlib.nullcontext(Job()))
    with pytest.raises(Failed, match="two: 2 processes ended with exit code 7") as failed:
        cards_checks.train(context, "two", 2, "gn")
    assert started[0]["TrainReader.batch_size"] == 2
    assert failed.value.numbers["output"] == "words of both ranks"


def test_a_read_by_the_teacher_is_found(tmp_path, monkeypatch):
    """DenseTeacher with AdamW reads nothing between two lines of the log, until the fault is made."""
    short = short_context(monkeypatch, Facts("cpu"), tmp_path)
    training_checks.start_weights(short).rename(tmp_path / "model_final.pdparams")
    monkeypatch.setattr(training_checks, "trained_run", lambda context: tmp_path)
    monkeypatch.setattr(training_checks, "SEMI_BATCH", 1)
    monkeypatch.setattr(memory_checks, "QUICK_INTERVAL", 2)
    monkeypatch.setattr(device, "runs_behind_host", lambda: True)
    monkeypatch.setattr(cpu, "can_compute", lambda *maps: False)  # oneDNN's layers, of which a device has none
    result = run("memory/reads_dense_teacher", short)
    assert result.status == "pass" and result.detail == "in 1 steps 0 reads (limit 0)", result

    def wrap(right):
        return lambda self, images: (float(images.sum()), right(self, images))[1]

    change(monkeypatch, StudentAndTeacher, "pseudo_labels", wrap)
    result = run("memory/reads_dense_teacher", short)
    assert result.status == "fail" and result.detail.startswith("in 1 steps 1 reads"), result
