"""Traces of a run."""

import json

import pytest
from paddle.profiler import Profiler

from ppdet.core.workspace import load_config
from ppdet.engine.hooks.profiler import ProfilerHook, ProfilerOptions, parse_options, targets
from ppdet.engine.trainer import Trainer
from ppdet.utils import device
from ppdet.utils.errors import ConfigError

records = pytest.mark.skipif(
    not device.can_be_profiled(), reason="a build of Paddle for GPUs records nothing where there is none"
)


def train(tiny, text, *options):
    Trainer(load_config(tiny, ["use_onednn=false", *options]), hooks=[ProfilerHook(parse_options(text))]).train()


def events(path):
    return json.loads(path.read_text())["traceEvents"]


def steps(path):
    return sorted({e["name"].split("[")[0] for e in events(path) if e.get("cat") == "ProfileStep"})


@records
def test_a_trace_of_the_steps_asked_for(tiny, tmp_path, log):
    train(tiny, "batch_range=[3,5]; state=CPU; tracer_option=OpDetail; sorted_key=max")
    path = tmp_path / "output" / "tiny" / "profiler" / "trace.json"
    assert steps(path) == ["ProfileStep#3", "ProfileStep#4"]
    assert any("conv2d" in e["name"] for e in events(path) if "name" in e)
    assert f"profiler trace: {path}" in log.text
    assert "Overview Summary" in log.text and "Operator Summary" in log.text and "conv2d" in log.text
    # The run has gone on to its end, and takes the trace for no checkpoint.
    assert (tmp_path / "output" / "tiny" / "model_final.json").exists()
    assert "damaged" not in log.text


@records
def test_a_run_that_ends_within_the_range(tiny, tmp_path, log):
    train(tiny, f"batch_range=[2,100];profile_path={tmp_path}/here/mine.json", "epoch=1")
    assert "ProfileStep#2" in steps(tmp_path / "here" / "mine.json")
    assert "nothing profiled" not in log.text


@records
def test_a_run_that_ends_before_the_range(tiny, tmp_path, log):
    train(tiny, "batch_range=[4,6]", "epoch=1")
    assert "nothing profiled: the run had 4 steps, batch_range starts at 4" in log.text
    assert not (tmp_path / "output" / "tiny" / "profiler").exists()


def test_times_alone_and_the_end_after_them(tiny, tmp_path, log):
    with pytest.raises(SystemExit) as ended:
        train(tiny, "batch_range=[1,3];timer_only=True;exit_on_finished=True")
    assert ended.value.code == 0
    assert "profiled steps: batch_cost: " in log.text and "images/s" in log.text
    folder = tmp_path / "output" / "tiny"
    assert not (folder / "profiler").exists() and not (folder / "0.json").exists()


@records
def test_a_gpu_that_is_not_there(tiny, tmp_path, log):
    train(tiny, "batch_range=[0,1];state=GPU", "epoch=1")
    assert "state is GPU, but this run has none: the CPU is profiled" in log.text
    assert steps(tmp_path / "output" / "tiny" / "profiler" / "trace.json") == ["ProfileStep#0"]


@pytest.mark.parametrize(
    ("kind", "expected"), [("gpu", "GPU"), ("xpu", "XPU"), ("npu", "CUSTOM_DEVICE"), ("cpu", "CPU")]
)
def test_what_is_recorded_on_each_device(monkeypatch, kind, expected):
    monkeypatch.setattr(device, "device_type", lambda: kind)
    assert [target.name for target in targets("GPU")] == [expected]
    assert [target.name for target in targets("CPU")] == ["CPU"]
    assert targets("All") is None


@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [("npu", "All", "GPUTotal"), ("gpu", "GPU", "GPUTotal"), ("gpu", "CPU", "CPUTotal"), ("cpu", "All", "CPUTotal")],
)
def test_order_of_the_summary(monkeypatch, tmp_path, kind, state, expected):
    class Done:
        def export(self, path, format):
            assert path == str(tmp_path / "trace.json")

        def summary(self, sorted_by, **options):
            seen.append(sorted_by.name)

    seen = []
    monkeypatch.setattr(device, "device_type", lambda: kind)
    hook = ProfilerHook(ProfilerOptions(batch_range=(0, 1), state=state, profile_path=tmp_path / "trace.json"))
    hook.steps = 1
    hook.write(None, Done())
    assert seen == [expected]


def test_defaults():
    assert parse_options("") == ProfilerOptions(batch_range=(10, 20), state="All", timer_only=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "batch_range=[20,10]",
            r"expected two steps, the second larger, such as \[10,20\], got '\[20,10\]'",
        ),
        ("batch_range=ten", "batch_range: expected two steps"),
        ("state=TPU", "state: expected one of CPU, GPU, All, got 'TPU'"),
        ("tracer_option=None", "tracer_option: expected one of Default, OpDetail, AllOpDetail"),
        ("sorted_key=calls", "sorted_key: expected one of total"),
        ("timer_only=perhaps", "timer_only: expected true or false"),
        ("profile_path=", "profile_path: expected the path of a file"),
        ("bach_range=[1,2]", "'bach_range=.*did you mean 'batch_range'"),
        ("batch_range", "expected option=value"),
    ],
)
def test_mistakes(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_options(text)


@pytest.mark.parametrize(
    ("kinds", "cards", "refused"), [(["cpu", "gpu"], 0, True), (["cpu", "gpu"], 1, False), (["cpu"], 0, False)]
)
def test_a_build_for_gpus_records_nothing_without_one(tiny, monkeypatch, kinds, cards, refused):
    """Its profiler raises CUDA's error 35 then, in the middle of a run."""
    monkeypatch.setattr(device, "supported_types", lambda: kinds)
    monkeypatch.setattr(device, "count", lambda kind: cards)
    started = []  # but not really: the build may have no GPU to record
    monkeypatch.setattr(Profiler, "start", lambda profiler: started.append(profiler))
    monkeypatch.setattr(Profiler, "stop", lambda profiler: started.remove(profiler))
    hook = ProfilerHook(parse_options("batch_range=[1,2]"))
    trainer = Trainer(load_config(str(tiny)))
    if refused:
        with pytest.raises(ConfigError, match="timer_only=True"):
            hook.before_train(trainer)
        assert not started
        return
    hook.before_train(trainer)
    assert started == [hook.profiler]
    hook.after_train(trainer)
    assert not started and hook.profiler is None
