"""What a trace of Paddle's profiler says of copies from the device and of waits for it.

A trace is a file for chrome://tracing. In Paddle 2.6 and 3 (paddle/fluid/platform/profiler) an event has a category
"cat", a name with its duration behind it, "MEMCPY_DtoH[2.000 us]", and its start "ts" and length "dur" in microseconds.
Category "Memcpy" are copies on the device, "CudaRuntime" calls of CUDA by the host, "Kernel" kernels, "ProfileStep" the
steps between two calls of Profiler.step.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

TO_HOST = ("MEMCPY_DtoH", "MEMCPY_DtoA", "MEMCPY_AtoH")
# Calls that return when the device has come so far. CUPTI's number 137 is cudaEventSynchronize, which has no name in
# Paddle's table. A copy to the host that waits is among TO_HOST.
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Runtime API 137[")
UNKNOWN = "0"  # thread of a call whose thread Paddle could not find out


class TraceError(ValueError):
    """A file that is no trace of whole steps."""


@dataclass
class Counts:
    """What happened in whole steps.

    steps: how many. to_host: copies from the device to the host, by name. waits: calls that wait for the device, by
    name, in the thread that trains: those that load data may wait for their copies. launches: kernels. copies: all
    copies, by name.
    """

    steps: int
    to_host: Counter = field(default_factory=Counter)
    waits: Counter = field(default_factory=Counter)
    copies: Counter = field(default_factory=Counter)
    launches: int = 0


def read_trace(path: Path) -> list[dict]:
    """The events of a trace.

    Raises:
        TraceError: it is none.
    """
    try:
        # Names of kernels can have characters that JSON would have escaped.
        return json.loads(path.read_text(encoding="utf-8", errors="replace"), strict=False)["traceEvents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path}: no trace of the profiler: {error}") from None


def count_events(events: list[dict]) -> Counts:
    """Count what lies within the recorded steps but the first and the last, in which the profiler itself starts and
    ends, and waits for the device.

    Raises:
        TraceError: there are less than three steps.
    """
    found = [event for event in events if event.get("cat") == "ProfileStep"]
    steps = sorted((thread(event), event["ts"], event["ts"] + event["dur"]) for event in found)
    if len(steps) < 3:
        raise TraceError(f"the trace has {len(steps)} steps, at least 3 are needed")
    begin, end = steps[1][1], steps[-2][2]
    trains = steps[0][0]
    counts = Counts(len(steps) - 2)
    for event in events:
        if event.get("ph") != "X" or not begin <= event["ts"] <= end:
            continue
        name = event["name"]
        if event["cat"] == "Kernel":
            counts.launches += 1
        elif event["cat"] == "Memcpy":
            counts.copies[bare(name)] += 1
            if name.startswith(TO_HOST):
                counts.to_host[bare(name)] += 1
        elif event["cat"] == "CudaRuntime" and name.startswith(WAITS) and thread(event) in (trains, UNKNOWN):
            counts.waits[bare(name)] += 1
    return counts


def thread(event: dict) -> str:
    """Number of a thread of the host, which Paddle writes as "71(Python)" and "71(C++)"."""
    return str(event["tid"]).partition("(")[0]


def bare(name: str) -> str:
    """A name without the duration that the profiler writes behind it."""
    return name.rpartition("[")[0] or name
