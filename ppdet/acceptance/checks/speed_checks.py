"""Checks of the speed of FCOS R50's training step, the cost of the guard in it, and the speed of the reader."""

import functools
import time
from typing import Any

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import LEVEL_2, MIXED, Need
from ppdet.acceptance.outcomes import Outcome, outcome_if
from ppdet.acceptance.timed_steps import (
    first_batch,
    median_seconds,
    mib,
    r50_config,
    ready_trainer,
    run_step,
    seconds_per_call,
    without_guard,
)
from ppdet.utils.process.cpu import cpu_count

GUARD_SHARE = 0.05  # limit of the time for the guard, relative to a step without it
READER_SHARE = 0.10  # limit of the time in which a step waits for data, relative to a step without reading
# Name of the check, description, overrides as -o takes them, needs, and expected seconds.
STEPS: list[tuple[str, str, list[str], list[Need], int]] = [
    ("float32", "in float32", [], [], 25),
    ("O1", "with amp_level O1", ["amp=true", "amp_level=O1"], [MIXED], 20),
    ("O2", "with amp_level O2", ["amp=true", "amp_level=O2"], [MIXED, LEVEL_2], 20),
]
GUARD_ADVICE = """
    If the result has a share of the guard: the guard copies weights and optimizer state, and restores them on the
    device after a step with an infinite gradient. More than 5 % for that means that it launches too many kernels, or
    that the step is very short; `python benchmarks/kernels.py` counts kernels on any machine. Training is still
    correct, only slower than necessary. If the result is an error: the operator in it has no kernel of this type on
    this device (-o custom_black_list=[NAME] keeps it in float32), or the memory is too small for 2 images of 800x1333
    pixels. Please send the report.
"""


def measure_step(context: Context, *, options: list[str]) -> Outcome:
    """Measure steps with and without the guard, and peak memory. `options` are overrides as -o takes them."""
    from ppdet.utils import device

    device.reset_peak_memory()
    trainer = ready_trainer(r50_config(context, options))
    batch = first_batch(trainer)

    def guarded() -> None:
        run_step(trainer, batch)

    def unguarded() -> None:
        with without_guard(trainer):
            run_step(trainer, batch)

    functions = {"with": guarded, "without": unguarded}
    seconds = median_seconds(functions, rounds=context.pick(5, 2), seconds=context.pick(1.5, 0.1))
    count, _, height, width = batch["image"].shape
    numbers = {
        "images": f"{count} x {height}x{width}",
        "type": trainer.precision.dtype,
        "images_per_second": count / seconds["with"],
        "peak_memory_mib": mib(device.peak_memory()),
    }
    # The few steps of a quick run are too noisy for a limit.
    return judge_step(seconds, numbers, judged=not context.quick)


for _name, _setting, _options, _needs, _seconds in STEPS:
    check(
        f"speed/{_name}",
        title=f"A step of R50 {_setting}, and the share of the guard in it",
        advice=GUARD_ADVICE,
        needs=_needs,
        seconds=_seconds,
    )(functools.partial(measure_step, options=_options))


def judge_step(seconds: dict[str, float], numbers: dict[str, Any], *, judged: bool) -> Outcome:
    """Compare steps with and without the guard.

    Args:
        seconds: seconds per step "with" and "without" the guard.
        numbers: further figures, see `measure_step`.
        judged: whether the limit applies.

    Raises:
        Failed: the share of the guard is above the limit.
    """
    share = seconds["with"] / seconds["without"] - 1
    milliseconds = 1e3 * seconds["with"]
    numbers = {
        **numbers,
        "ms_per_step": milliseconds,
        "ms_per_step_without_guard": 1e3 * seconds["without"],
        "guard_share": share,
    }
    memory = f", {numbers['peak_memory_mib']} MiB" if numbers["peak_memory_mib"] is not None else ""
    limit = f"limit {GUARD_SHARE:.0%}" if judged else "not judged in a quick run"
    detail = (
        f"{numbers['images']} {numbers['type']}: {milliseconds:.1f} ms, "
        f"{numbers['images_per_second']:.1f} images/s{memory}, guard {share:+.1%} ({limit})"
    )
    return outcome_if(not judged or share <= GUARD_SHARE, detail, numbers)


@check("speed/reader", seconds=20)
def reader(context: Context) -> Outcome:
    """Steps of R50 on batches that are read from JPEG files, and on a batch in memory

    The device waits for images. Raise worker_num (-o worker_num=4) up to the number of processors, put the images on a
    local disk, or make them smaller. With few processors per card, only smaller JPEG files help.
    """
    # Uses the fastest precision of the device, because it needs the most images per second.
    from ppdet.utils import device

    workers = context.pick(2, 1)
    fastest = ["amp=true"] if context.facts.amp else []
    trainer = ready_trainer(r50_config(context, [f"worker_num={workers}", *fastest]))
    batches = iter(trainer.reader)
    try:
        batch = next(batches)
        for _ in range(3):
            run_step(trainer, batch)
        least, most = context.pick((20, len(trainer.reader) - 4), (3, len(trainer.reader) - 2))
        one = seconds_per_call(lambda: run_step(trainer, batch), 1)
        steps = max(least, min(most, round(context.pick(8.0, 0.1) / one)))
        in_memory = seconds_per_call(lambda: run_step(trainer, batch), steps)
        waited = 0.0
        start = time.perf_counter()
        for _ in range(steps):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            run_step(trainer, batch)
        device.synchronize()
        read = (time.perf_counter() - start) / steps
    finally:
        batches.close()
    numbers = {
        "workers": workers,
        "processors": cpu_count(),
        "steps": steps,
        "type": trainer.precision.dtype,
        "images_per_second_read": trainer.reader.batch_size / read,
        "seconds_waited_for_data": waited,
    }
    return judge_reader(in_memory, read, numbers, judged=not context.quick)


def judge_reader(in_memory: float, read: float, numbers: dict[str, Any], *, judged: bool) -> Outcome:
    """Compare steps on one batch in memory with steps on batches of the reader.

    Args:
        in_memory, read: seconds per step.
        numbers: further figures, see `reader`.
        judged: whether the limit applies.

    Raises:
        Failed: steps on batches of the reader are slower than the limit allows.
    """
    numbers = {**numbers, "ms_per_step_of_one_batch": 1e3 * in_memory, "ms_per_step_of_read_batches": 1e3 * read}
    share = read / in_memory - 1
    limit = f"limit {READER_SHARE:.0%}" if judged else "not judged in a quick run"
    detail = (
        f"{numbers['workers']} workers: {1e3 * read:.1f} ms per step, {1e3 * in_memory:.1f} ms without reading: "
        f"{share:+.1%} ({limit}); {numbers['seconds_waited_for_data']:.2f} s of waiting in {numbers['steps']} steps"
    )
    return outcome_if(not judged or round(share, 6) <= READER_SHARE, detail, numbers)
