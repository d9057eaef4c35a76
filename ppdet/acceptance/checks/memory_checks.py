"""Checks that training steps do not wait for the device, and that the memory of a long run does not grow."""

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import DEVICE, GPU
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.profiler_trace import count_events, read_trace
from ppdet.acceptance.tensor_reads import record_reads
from ppdet.acceptance.timed_steps import first_batch, mib, r50_config, ready_trainer, run_step
from ppdet.utils.disk.files import read_text

if TYPE_CHECKING:
    import numpy as np

    from ppdet.engine.hooks import Hook
    from ppdet.engine.trainer import Trainer

INTERVAL, QUICK_INTERVAL = 20, 6  # steps between two lines of the log
SETTLED = 100  # number of steps after which memory must not grow any more
# Allowed growth: this share of the memory, or this many MiB if that is more. On a CPU, oneDNN compiles kernels for each
# size of image, and a quick run has not seen all sizes before it is judged.
GROWTH, GROWTH_MIB, CPU_GROWTH_MIB = 0.05, 64, 256
READ_ADVICE = """
    In a step between two lines of the log, something reads a value from the device or waits for it. The device is idle
    while the host prepares the next step. The report names the copies, the calls or the lines of code.
    `ppdet train -c FILE --profiler_options "batch_range=[22,38]"` writes a trace that shows the place in the step.
    Please send the report: it is a fault of this code, or of an operation in your version of Paddle.
"""


def short_trainer(context: Context, hooks: "Sequence[Hook]") -> "Trainer":
    """Return a trainer of a run that logs three times: R18, average of weights, clipped gradients, mixed precision.

    Mixed precision adds casts, and with float16 a loss scale.
    """
    interval = context.pick(INTERVAL, QUICK_INTERVAL)
    options = ["ResNet.depth=18", "use_ema=true", "OptimizerBuilder.clip_grad_by_norm=10.0", f"log_iter={interval}"]
    options += ["epoch=null", f"max_iters={2 * interval + 1}", "TrainReader.batch_size=1"]
    return ready_trainer(r50_config(context, [*options, *(["amp=true"] if context.facts.amp else [])]), hooks)


@check("memory/copies", advice=READ_ADVICE, needs=[GPU], seconds=25)
def copies(context: Context) -> Outcome:
    """Copies to the host and waits for the device between two lines of the log, in a trace of CUDA's calls"""
    from ppdet.engine.hooks.profiler import ProfilerHook, ProfilerOptions

    path = context.folder("trace") / "trace.json"
    interval = context.pick(INTERVAL, QUICK_INTERVAL)
    # The first step after a line of the log, and the step of the next line: that line itself has to read values.
    options = ProfilerOptions(batch_range=(interval + 1, 2 * interval), profile_path=path)
    short_trainer(context, [ProfilerHook(options)]).train()
    return judge_trace(read_trace(path))


def judge_trace(events: list[dict[str, Any]]) -> Outcome:
    """Check that a trace has no copies to the host, and no waits of the training thread for the device.

    Raises:
        Failed: it has some, or it has no kernels.
    """
    counts = count_events(events)
    kernels = counts.kernels / counts.steps
    numbers = {
        "steps": counts.steps,
        "kernels_per_step": kernels,
        "copies": dict(counts.copies),
        "waits": dict(counts.waits),
    }
    if not counts.kernels:
        raise Failed("the trace has no kernels: CUPTI, which Paddle's profiler uses, does not work here", **numbers)
    to_host, waits = sum(counts.to_host.values()), sum(counts.waits.values())
    detail = (
        f"in {counts.steps} steps {to_host} copies to the host and {waits} waits for the device (limit 0), "
        f"{kernels:.0f} kernels per step"
    )
    if to_host or waits:
        names = ", ".join(f"{count} x {name}" for name, count in (counts.to_host + counts.waits).items())
        raise Failed(f"{detail}: {names}", **numbers)
    return Outcome(detail, numbers)


@check("memory/reads", advice=READ_ADVICE, needs=[DEVICE], seconds=10)
def reads(context: Context) -> Outcome:
    """Reads of tensors by Python between two lines of the log"""
    # Like memory/copies, but without the profiler, and with the line of code in the result.
    return find_reads(lambda hook: short_trainer(context, [hook]))


@check("memory/reads_dense_teacher", advice=READ_ADVICE, needs=[DEVICE], uses=["trained"], seconds=6)
def reads_dense_teacher(context: Context) -> Outcome:
    """Reads of tensors by Python between two lines of the log, for DenseTeacher with AdamW"""
    from ppdet.acceptance.checks.training_checks import Variant, variant_config
    from ppdet.engine.trainer import Trainer

    interval = context.pick(INTERVAL, QUICK_INTERVAL)
    overrides = {"max_iters": 2 * interval + 1, "log_iter": interval, "amp": bool(context.facts.amp)}
    cfg = variant_config(context, Variant("reads", "adamw", dense_teacher=True), "reads", overrides)
    return find_reads(lambda hook: Trainer(cfg, overwrite=True, hooks=[hook]))


def find_reads(make_trainer: "Callable[[Hook], Trainer]") -> Outcome:
    """Train, and check that no step without a line of the log reads a tensor.

    Args:
        make_trainer: makes the trainer with a hook.

    Raises:
        Failed: a tensor was read, or every step had a line of the log.
    """
    from ppdet.engine.hooks import Hook

    with record_reads() as recorded:

        class Watch(Hook):
            steps = 0

            def before_step(self, trainer: "Trainer") -> None:
                recorded.watching = recorded.watching and not (trainer.is_log_step or trainer.ends_epoch)
                self.steps += recorded.watching

            def after_step(self, trainer: "Trainer") -> None:
                # Pictures are drawn of the first two batches, and a checkpoint is written after the last one.
                recorded.watching = 2 <= trainer.step < trainer.steps_of_epoch - 1

            def close(self, trainer: "Trainer") -> None:
                recorded.watching = False

        watch = Watch()
        make_trainer(watch).train()
    if not watch.steps:
        raise Failed("no step was watched: the run is too short, or every step has a line of the log")
    places = {place: recorded.places.count(place) for place in set(recorded.places)}
    numbers = {"steps": watch.steps, "places": places}
    detail = f"in {watch.steps} steps {len(recorded.places)} reads (limit 0)"
    if recorded.places:
        raise Failed(f"{detail}, first {recorded.places[0]}", **numbers)
    return Outcome(detail, numbers)


@check("memory/sizes", seconds=45)
def sizes(context: Context) -> Outcome:
    """Memory of device and host while the sizes of images change

    Memory grows with every new size of image, so a long run would end when memory runs out. If "reserved" grows but
    "allocated" does not, the free memory of Paddle's allocator is fragmented: use fewer sizes of images
    (PadBatch.pad_to_stride 128 instead of 32). If "allocated" grows, tensors are kept. If "host" grows, it may be an
    allocator that keeps freed memory: if MALLOC_TRIM_THRESHOLD_=100000 in front of the command helps, it is. Please
    send the report: it has the curve.
    """
    # Trains on parts of a large batch. The first two steps use all of it, so the largest size comes first.
    import numpy as np

    trainer = ready_trainer(r50_config(context, ["ResNet.depth=18", "TrainReader.batch_size=1"]))
    whole = first_batch(trainer)
    rng = np.random.default_rng(context.seed)
    steps, settled = context.pick((500, SETTLED), (40, 15))
    curve = []
    for number in range(1, steps + 1):
        run_step(trainer, crop(trainer, whole, rng if number > 2 else None))
        if number % 10 == 0:
            trainer.guard.read_pending_checks()  # as a run does at lines of the log; it also waits for the device
            curve.append({"step": number, **memory_in_use()})
    return judge_curve(curve, settled, context.pick(GROWTH_MIB, CPU_GROWTH_MIB))


def crop(trainer: "Trainer", batch: dict[str, Any], rng: "np.random.Generator | None") -> dict[str, Any]:
    """Crop the images of a batch to a random size, and give them the targets that the reader would compute.

    Args:
        rng: draws height and width: at least half of the batch's, multiples of 128 (of 32 for small images). None
            keeps the whole size.
    """
    import numpy as np
    import paddle

    height, width = batch["image"].shape[2:]
    unit = 128 if min(height, width) >= 512 else 32
    if rng is not None:
        height, width = (unit * int(rng.integers(side // (2 * unit), side // unit + 1)) for side in (height, width))
    image = batch["image"][:, :, :height, :width]
    sample = {
        "image": np.empty((3, height, width), np.float32),
        "gt_bbox": np.array([[4, 4, width / 2, height / 2]], np.float32),
        "gt_class": np.zeros((1, 1), np.int32),
    }
    make_targets = next(t for t in trainer.reader.batch_transforms if hasattr(t, "distances_in_strides"))
    (sample,) = make_targets([sample])
    targets = {key: np.stack([sample[key]] * len(image)) for key in sample if key.startswith("target_")}
    return {**batch, "image": image, **{key: paddle.to_tensor(value) for key, value in targets.items()}}


def memory_in_use() -> dict[str, int | None]:
    """Return MiB of this process: "host" where Linux tells it, "allocated" and "reserved" on devices."""
    from ppdet.utils import device

    used = {name: mib(count) for name, count in (device.memory() or {}).items()}
    status = Path("/proc/self/status")
    resident = re.search(r"VmRSS:\s+(\d+) kB", read_text(status)) if status.exists() else None
    return {**used, "host": int(resident[1]) >> 10} if resident else used


def judge_curve(curve: list[dict[str, Any]], settled: int, room_mib: int) -> Outcome:
    """Check that memory has not grown since step `settled`; both ends are medians of three points.

    Args:
        curve: points with "step" and MiB by name, see `memory_in_use`.
        room_mib: allowed growth in MiB, if it is more than the share GROWTH.

    Raises:
        Failed: memory has grown by more than is allowed.
    """
    numbers = {"curve": curve}
    early = [point for point in curve if point["step"] <= settled][-3:]
    parts, grown = [], []
    for name in (key for key in curve[-1] if key != "step"):
        before = statistics.median(point[name] for point in early)
        after = statistics.median(point[name] for point in curve[-3:])
        limit = before + max(GROWTH * before, room_mib)
        parts.append(f"{name} {before:.0f} to {after:.0f} MiB (limit {limit:.0f})")
        grown += [name] if after > limit else []
    detail = f"from step {settled} to {curve[-1]['step']}: {', '.join(parts)}"
    if grown:
        raise Failed(f"{', '.join(grown)} memory grows {detail}", **numbers)
    return Outcome(detail, numbers)
