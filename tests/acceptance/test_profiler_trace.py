"""Traces in the format of paddle/fluid/platform/profiler/chrometracing_logger.cc are counted correctly."""

import json

import pytest

from ppdet.acceptance.checks.memory_checks import judge_curve, judge_trace
from ppdet.acceptance.outcomes import Failed
from ppdet.acceptance.profiler_trace import TraceError, count_events, read_trace
from ppdet.core.workspace import load_config
from ppdet.engine.hooks.profiler import ProfilerHook, ProfilerOptions
from ppdet.engine.trainer import Trainer

TRAINS, LOADS = "71(C++)", "72(C++)"  # the thread that trains, and one that loads data


def event(cat, name, ts, *, tid, dur=0.5):
    return {"name": f"{name}[{dur:.3f} ms]", "pid": 1, "tid": tid, "ts": ts, "dur": dur, "ph": "X", "cat": cat}


def trace(*more):
    """Four steps of 100 µs with two kernels each. The first and the last one have waits of the profiler itself."""
    events = [event("ProfileStep", f"ProfileStep#{n}", 100 * n, tid="71(Python)", dur=100) for n in range(4)]
    events += [event("Kernel", "void conv<float>(char [4])", 50 * n + 10, tid=7) for n in range(8)]
    events += [event("CudaRuntime", "cudaDeviceSynchronize_v3020", ts, tid=TRAINS) for ts in (5, 395)]
    events += [event("Memcpy", "MEMCPY_DtoH", 396, tid=7), event("Memcpy", "MEMCPY_HtoD", 150, tid=9)]
    events += [event("CudaRuntime", "cudaStreamSynchronize_v3020", 160, tid=LOADS)]
    events += [{"name": "launch", "id": 1, "pid": 1, "tid": TRAINS, "ts": 150, "ph": "s", "cat": "async"}]
    return [*events, *more]


def test_steps_that_read_nothing():
    outcome = judge_trace(trace())
    assert outcome.numbers["kernels_per_step"] == 2.0
    assert outcome.numbers["copies"] == {"MEMCPY_HtoD": 1}
    assert outcome.detail.startswith("in 2 steps 0 copies to the host and 0 waits for the device (limit 0), 2 kernels")


@pytest.mark.parametrize(
    ("cat", "name", "tid"),
    [
        ("Memcpy", "MEMCPY_DtoH", 7),
        ("CudaRuntime", "cudaStreamSynchronize_v3020", TRAINS),
        ("CudaRuntime", "cudaDeviceSynchronize_v3020", TRAINS),
        ("CudaRuntime", "Runtime API 137", TRAINS),
        ("CudaRuntime", "cudaStreamSynchronize_v3020", "0(C++)"),
    ],
)
def test_what_makes_steps_wait(cat, name, tid):
    with pytest.raises(Failed, match=rf"in 2 steps .*: 2 x {name}$") as failed:
        judge_trace(trace(event(cat, name, 110, tid=tid), event(cat, name, 290, tid=tid)))
    assert failed.value.numbers["steps"] == 2


def test_what_makes_no_step_wait():
    names = ["cudaMemcpyAsync_v3020", "cudaLaunchKernel_v7000", "cudaEventRecord_v3020", "cudaStreamWaitEvent_v3020"]
    judge_trace(trace(*(event("CudaRuntime", name, 150, tid=TRAINS) for name in names)))


def test_a_profiler_without_kernels_is_no_proof():
    with pytest.raises(Failed, match="no kernels: CUPTI"):
        judge_trace([one for one in trace() if one["cat"] != "Kernel"])


def test_traces_that_are_none(tmp_path):
    with pytest.raises(TraceError, match="2 steps, at least 3"):
        count_events([one for one in trace() if one["ts"] < 200])
    path = tmp_path / "trace.json"
    for text in ("", "[]", "{}", '{"traceEvents": ['):
        path.write_text(text)
        with pytest.raises(TraceError, match=r"trace\.json: expected a trace of Paddle"):
            read_trace(path)
    path.write_text(json.dumps({"traceEvents": trace()}))
    assert count_events(read_trace(path)).steps == 2


def curve(host, reserved):
    return [{"step": 10 * n, "host": h, "reserved": r} for n, (h, r) in enumerate(zip(host, reserved), start=1)]


def test_memory_that_stays():
    peaks = [500, 900, 2000] + [2000] * 7
    outcome = judge_curve(curve(peaks, [2000, 2005, 1990] * 3 + [2100]), settled=50, room_mib=64)
    assert outcome.detail == (
        "from step 50 to 100: host 2000 to 2000 MiB (limit 2100), reserved 2000 to 2005 MiB (limit 2100)"
    )


@pytest.mark.parametrize("name", ["host", "reserved"])
def test_memory_that_grows(name):
    flat, grows = [1000] * 10, [1000 + 20 * n for n in range(10)]
    columns = {"host": flat, "reserved": flat, name: grows}
    with pytest.raises(Failed, match=f"^{name} memory grows from step 50 to 100: .*{name} 1060 to 1160 MiB"):
        judge_curve(curve(columns["host"], columns["reserved"]), settled=50, room_mib=64)


def test_a_real_trace(tiny, tmp_path):
    """A trace of a CPU has the profiled steps, two of which are not counted, and no kernels of a GPU."""
    options = ProfilerOptions(batch_range=(1, 6), profile_path=tmp_path / "trace.json")
    cfg = load_config(tiny, ["epoch=1", "TrainReader.batch_size=1", "auto_lr=null", "use_onednn=false"])
    Trainer(cfg, hooks=[ProfilerHook(options)]).train()
    events = read_trace(tmp_path / "trace.json")
    assert count_events(events).steps == 3
    with pytest.raises(Failed, match="the trace has no kernels"):
        judge_trace(events)
