"""How fast the whole training step is, what the guard costs in it, and whether the reader keeps up."""

import time

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import MIXED, Need
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.steps import (
    NoGuard,
    first_batch,
    guarded_by,
    in_turns,
    mib,
    padded_size,
    r50_config,
    seconds_of,
    step,
    tera_flops,
    trainer_of,
)
from ppdet.utils.process.cpu import cpu_count

GUARD_SHARE = 0.05  # of a step, that guarding it may cost
READER_SHARE = 0.10  # of a step, that waiting for its data may cost
GUARD_ADVICE = """
    With a figure for the guard: it keeps weights and the optimizer's state, and puts them back on the device where a
    gradient was not finite. More than 5 % for that means that it launches more kernels than it should, or that the step
    is very short; `python benchmarks/kernels.py` counts them, on any machine. Training is right all the same, only
    slower than it could be. With an error: an operator that it names has no kernel in this type on this device
    (-o custom_black_list=[NAME] keeps it in float32), or memory is too little for 2 images of 800x1333. Please send the
    report.
"""
READER_ADVICE = """
    The device waits for images. Raise worker_num (-o worker_num=4) up to the number of processors, put the images on a
    local disk, or make them smaller. With few processors for each card nothing but smaller JPEG files helps.
"""


LEVELS = Need(
    "levels of mixed precision", lambda facts: "on a CPU there is one level, O1" if facts.device == "cpu" else None
)


def measure(context: Context, options: list[str]) -> Outcome:
    """ms per step with and without the guard, images/s, and memory, of FCOS R50."""
    from ppdet.utils import device

    device.reset_peak_memory()
    trainer = trainer_of(r50_config(context, options))
    batch = first_batch(trainer)
    bare_guard = NoGuard(trainer)

    def guarded() -> None:
        step(trainer, batch)

    def bare() -> None:
        with guarded_by(trainer, bare_guard):
            step(trainer, batch)

    context.progress("steps with and without the guard")
    seconds = in_turns({"with": guarded, "without": bare}, turns=context.pick(5, 2), seconds=context.pick(1.5, 0.1))
    numbers = {
        "images": padded_size(batch),
        "type": trainer.precision.dtype,
        "images_per_second": len(batch["image"]) / seconds["with"],
        "peak_memory_mib": mib(device.peak_memory()),
    }
    if not context.quick:
        numbers["tflops_of_convolutions"] = tera_flops(batch, seconds["with"])
    # A quick run's few steps on a CPU, whose processors do other things as well, tell of no share.
    return judge_step(seconds, numbers, judged=not context.quick)


def judge_step(seconds: dict[str, float], numbers: dict, *, judged: bool) -> Outcome:
    """`seconds` of a step "with" and "without" the guard. Raises Failed where it takes too large a share."""
    share = seconds["with"] / seconds["without"] - 1
    numbers = {
        **numbers,
        "ms_per_step": 1e3 * seconds["with"],
        "ms_per_step_without_guard": 1e3 * seconds["without"],
        "guard_share": share,
    }
    memory = f", {numbers['peak_memory_mib']} MiB" if numbers["peak_memory_mib"] is not None else ""
    limit = f"limit {GUARD_SHARE:.0%}" if judged else "not judged in a quick run"
    detail = (
        f"{numbers['images']} {numbers['type']}: {numbers['ms_per_step']:.1f} ms, "
        f"{numbers['images_per_second']:.1f} images/s{memory}, guard {share:+.1%} ({limit})"
    )
    if judged and share > GUARD_SHARE:
        raise Failed(detail, **numbers)
    return Outcome(detail, numbers)


@check(
    "speed/float32",
    title="a step of R50 in float32, and the guard's share of it",
    advice=GUARD_ADVICE,
    limit=120,
    seconds=25,
)
def float32(context: Context) -> Outcome:
    return measure(context, [])


@check(
    "speed/O1",
    title="a step of R50 with amp_level O1, and the guard's share of it",
    advice=GUARD_ADVICE,
    needs=[MIXED],
    limit=120,
    seconds=20,
)
def level_1(context: Context) -> Outcome:
    return measure(context, ["amp=true", "amp_level=O1"])


@check(
    "speed/O2",
    title="a step of R50 with amp_level O2, and the guard's share of it",
    advice=GUARD_ADVICE,
    needs=[MIXED, LEVELS],
    limit=120,
    seconds=20,
)
def level_2(context: Context) -> Outcome:
    return measure(context, ["amp=true", "amp_level=O2"])


@check(
    "speed/reader",
    title="does a reader of JPEG files keep up with the steps of R50?",
    advice=READER_ADVICE,
    limit=120,
    seconds=20,
)
def reader(context: Context) -> Outcome:
    """Steps on batches as they come from the workers, beside as many on one batch that is there already."""
    from ppdet.utils import device

    workers = context.pick(2, 1)
    # What trains fastest here has to be fed.
    fastest = ["amp=true"] if context.facts.amp else []
    trainer = trainer_of(r50_config(context, [f"worker_num={workers}", *fastest]))
    batches = iter(trainer.reader)
    try:
        batch = next(batches)
        for _ in range(3):
            step(trainer, batch)
        least, most = context.pick((20, len(trainer.reader) - 4), (3, len(trainer.reader) - 2))
        one = seconds_of(lambda: step(trainer, batch), 1)
        steps = max(least, min(most, round(context.pick(8.0, 0.1) / one)))
        context.progress(f"{steps} steps on one batch, and as many on the reader's")
        fixed = seconds_of(lambda: step(trainer, batch), steps)
        waited = 0.0
        start = time.perf_counter()
        for _ in range(steps):
            ready = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - ready
            step(trainer, batch)
        device.synchronize()
        fed = (time.perf_counter() - start) / steps
    finally:
        batches.close()
    numbers = {
        "workers": workers,
        "processors": cpu_count(),
        "steps": steps,
        "type": trainer.precision.dtype,
        "images_per_second_read": trainer.reader.batch_size / fed,
        "seconds_waited_for_data": waited,
    }
    return judge_reader(fixed, fed, numbers, judged=not context.quick)


def judge_reader(fixed: float, fed: float, numbers: dict, *, judged: bool) -> Outcome:
    """Seconds of a step on one batch, and on those of the reader. Raises Failed where the device waits for these."""
    numbers = {**numbers, "ms_per_step_of_one_batch": 1e3 * fixed, "ms_per_step_of_read_batches": 1e3 * fed}
    share = fed / fixed - 1
    limit = f"limit {READER_SHARE:.0%}" if judged else "not judged in a quick run"
    detail = (
        f"{numbers['workers']} workers: {1e3 * fed:.1f} ms a step, {1e3 * fixed:.1f} without reading: {share:+.1%} "
        f"({limit}); waited {numbers['seconds_waited_for_data']:.2f} s for the data of {numbers['steps']} steps"
    )
    if judged and round(share, 6) > READER_SHARE:
        raise Failed(detail, **numbers)
    return Outcome(detail, numbers)
