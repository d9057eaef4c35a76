"""Counts copies to the host, waits for the device and kernels in a trace of Paddle's profiler.

A trace is a JSON file in the format of chrome://tracing. In Paddle 2.6 and 3 (paddle/fluid/platform/profiler), an event
has a category "cat", a name followed by its duration, such as "MEMCPY_DtoH[2.000 us]", and its start "ts" and duration
"dur" in microseconds. The categories are "Memcpy" for copies on the device, "CudaRuntime" for the host's calls of CUDA,
"Kernel" for kernels, and "ProfileStep" for the steps between two calls of Profiler.step.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TO_HOST = ("MEMCPY_DtoH", "MEMCPY_DtoA", "MEMCPY_AtoH")
# Calls of CUDA that block the host. Number 137 of CUPTI is cudaEventSynchronize, which Paddle's table does not name.
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Runtime API 137[")
UNKNOWN_THREAD = "0"


class TraceError(ValueError):
    """The file is not a trace, or the trace has too few steps."""


@dataclass
class Counts:
    """Events in whole training steps.

    Args:
        steps: number of steps.
        to_host: copies from the device to the host, by name.
        waits: calls in the training thread that wait for the device, by name. Other threads may wait: those that load
            data wait for their copies.
        copies: all copies, by name.
        kernels: number of kernels.
    """

    steps: int
    to_host: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    kernels: int = 0


def read_trace(path: Path) -> list[dict[str, Any]]:
    """Return the events of a trace.

    Raises:
        TraceError: the file is not a trace.
    """
    try:
        # Names of kernels may contain control characters, which strict JSON does not allow.
        return json.loads(path.read_text(encoding="utf-8", errors="replace"), strict=False)["traceEvents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"{path}: expected a trace of Paddle's profiler: {error}") from None


def count_events(events: list[dict[str, Any]]) -> Counts:
    """Count the events within the recorded steps, without the first and the last step.

    In those two the profiler itself starts and ends, and waits for the device.

    Raises:
        TraceError: the trace has fewer than three steps.
    """
    profiled = [event for event in events if event.get("cat") == "ProfileStep"]
    steps = sorted((thread_of(event), event["ts"], event["ts"] + event["dur"]) for event in profiled)
    if len(steps) < 3:
        raise TraceError(f"the trace has {len(steps)} steps, at least 3 are needed")
    begin, end = steps[1][1], steps[-2][2]
    training_thread = steps[0][0]
    counts = Counts(len(steps) - 2)
    for event in events:
        if event.get("ph") != "X" or not begin <= event["ts"] <= end:
            continue
        category, name = event["cat"], event["name"]
        plain_name = name.rpartition("[")[0] or name  # without the duration
        if category == "Kernel":
            counts.kernels += 1
        elif category == "Memcpy":
            counts.copies[plain_name] += 1
            if name.startswith(TO_HOST):
                counts.to_host[plain_name] += 1
        elif name.startswith(WAITS) and thread_of(event) in (training_thread, UNKNOWN_THREAD):
            counts.waits[plain_name] += 1
    return counts


def thread_of(event: dict[str, Any]) -> str:
    """Return the number of the host's thread, which Paddle writes as "71(Python)" or "71(C++)"."""
    return str(event["tid"]).partition("(")[0]
