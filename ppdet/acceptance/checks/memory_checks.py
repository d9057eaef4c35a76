"""What goes between host and device while a run trains, and whether the memory of a long run stays what it is."""

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import DEVICE, GPU
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.reads import reads_noted
from ppdet.acceptance.steps import first_batch, mib, r50_config, step, trainer_of
from ppdet.acceptance.traces import count_events, read_trace

INTERVAL, QUICK_INTERVAL = 20, 6  # steps between two lines of the log
SETTLED = 100  # steps after which memory must not grow any more
GROWTH, GROWTH_MIB = 0.05, 64  # what it may grow all the same, whichever is more
CPU_GROWTH_MIB = 256  # where oneDNN compiles for each size: it has not met all of them in a quick run
READ_ADVICE = """
    Something reads a number from the device, or waits for it, in a step between two lines of the log: the device
    stands still while the host prepares the next step. The report names the copies, the calls or the lines of code.
    `python tools/train.py -c FILE --profiler_options "batch_range=[22,38]"` writes a trace that shows which part of the
    step it is. Please send the report: it is a fault of this code, or of how Paddle does an operation in your version.
"""
MEMORY_ADVICE = """
    Memory grows with every new size of image, so a long run would end for lack of it. If "reserved" grows and
    "allocated" does not, Paddle's allocator has no room left between pieces of other sizes: fewer sizes
    (PadBatch.pad_to_stride 128 in place of 32) help. If "allocated" grows, something keeps tensors; if "host" does, it
    may be an allocator that keeps what was freed, which MALLOC_TRIM_THRESHOLD_=100000 in front of the command tells.
    Please send the report: it has the curve.
"""


def short_run(context: Context, hooks: Sequence[object], more: Sequence[str] = ()) -> object:
    """A run of R18 with an average of weights and clipped gradients, of three lines of the log."""
    interval = context.pick(INTERVAL, QUICK_INTERVAL)
    options = ["ResNet.depth=18", "use_ema=true", "OptimizerBuilder.clip_grad_by_norm=10.0", f"log_iter={interval}"]
    options += ["epoch=null", f"max_iters={2 * interval + 1}", "TrainReader.batch_size=1"]
    return trainer_of(r50_config(context, [*options, *more]), hooks)


def traced_run(context: Context, path: Path) -> None:
    """Train as `Trainer.train` does, and write a trace of steps between two lines of the log."""
    from ppdet.engine.hooks.profiler import ProfilerHook, ProfilerOptions

    interval = context.pick(INTERVAL, QUICK_INTERVAL)
    # The line of the log itself reads; the hook after it still belongs to its step.
    options = ProfilerOptions(batch_range=(interval + 1, 2 * interval), profile_path=path)
    short_run(context, [ProfilerHook(options)], mixed(context)).train()


def mixed(context: Context) -> list[str]:
    """With mixed precision there are casts, and with float16 a loss scale, beside all that float32 has."""
    return ["amp=true"] if context.facts.amp else []


@check(
    "memory/copies",
    title="copies to the host, and waits for the device, between two lines of the log",
    advice=READ_ADVICE,
    needs=[GPU],
    limit=90,
    seconds=25,
)
def copies(context: Context) -> Outcome:
    """As CUDA's own counters say, through Paddle's profiler."""
    path = context.folder("trace") / "trace.json"
    traced_run(context, path)
    return judge_trace(read_trace(path))


def judge_trace(events: list[dict]) -> Outcome:
    """Raises Failed where something was copied to the host, or the thread that trains waited for the device."""
    counts = count_events(events)
    numbers = {
        "steps": counts.steps,
        "kernels_per_step": counts.launches / counts.steps,
        "copies": dict(counts.copies),
        "waits": dict(counts.waits),
    }
    if not counts.launches:
        raise Failed("the trace has no kernels: CUPTI, which Paddle's profiler asks, does not work here", **numbers)
    to_host, waits = sum(counts.to_host.values()), sum(counts.waits.values())
    detail = (
        f"in {counts.steps} steps {to_host} copies to the host and {waits} waits for the device (limit 0), "
        f"{numbers['kernels_per_step']:.0f} kernels a step"
    )
    if to_host or waits:
        names = ", ".join(f"{count} x {name}" for name, count in (counts.to_host + counts.waits).items())
        raise Failed(f"{detail}: {names}", **numbers)
    return Outcome(detail, numbers)


@check(
    "memory/reads",
    title="reads of tensors by Python between two lines of the log",
    advice=READ_ADVICE,
    needs=[DEVICE],
    limit=90,
    seconds=10,
)
def reads(context: Context) -> Outcome:
    """The same question to Python: it also names the line of code, and needs no profiler."""
    return watch_reads(lambda hook: short_run(context, [hook], mixed(context)))


@check(
    "memory/reads_dense_teacher",
    title="the same for DenseTeacher with AdamW",
    advice=READ_ADVICE,
    needs=[DEVICE],
    uses=["trained"],
    limit=90,
    seconds=6,
)
def reads_dense_teacher(context: Context) -> Outcome:
    from ppdet.acceptance.checks.training_checks import Variant, configuration
    from ppdet.engine.trainer import Trainer

    interval = context.pick(INTERVAL, QUICK_INTERVAL)
    variant, steps = Variant("reads", "adamw", dense_teacher=True), 2 * interval + 1
    more = {"log_iter": interval, "amp": bool(context.facts.amp)}
    cfg = configuration(context, variant, "reads", steps, reference=False, more=more)
    return watch_reads(lambda hook: Trainer(cfg, overwrite=True, hooks=[hook]))


def watch_reads(make_trainer: Callable[[object], object]) -> Outcome:
    """Train what it makes of a hook, and raise Failed where the steps between two lines of the log read a tensor."""
    from ppdet.engine.hooks import Hook

    with reads_noted() as noted:

        class Watch(Hook):
            steps = 0

            def before_step(self, trainer: object) -> None:
                noted.watches = noted.watches and not trainer.is_log_step
                self.steps += noted.watches

            def after_step(self, trainer: object) -> None:
                # The batches of the first two are drawn; after the last one a checkpoint is written.
                noted.watches = 2 <= trainer.step < trainer.steps_of_epoch - 1

            def close(self, trainer: object) -> None:
                noted.watches = False

        watch = Watch()
        make_trainer(watch).train()
    if not watch.steps:
        raise Failed("no step was watched: the run is too short, or has a line of the log for each step")
    numbers = {"steps": watch.steps, "places": {place: noted.places.count(place) for place in set(noted.places)}}
    detail = f"in {watch.steps} steps {len(noted.places)} reads (limit 0)"
    if noted.places:
        raise Failed(f"{detail}, first {noted.places[0]}", **numbers)
    return Outcome(detail, numbers)


@check(
    "memory/sizes",
    title="memory of device and host while images change their size",
    advice=MEMORY_ADVICE,
    limit=150,
    seconds=45,
)
def sizes(context: Context) -> Outcome:
    """Steps on images of changing size, cut from a large batch; the largest size comes among the first."""
    import numpy as np

    trainer = trainer_of(r50_config(context, ["ResNet.depth=18", "TrainReader.batch_size=1"]))
    whole = first_batch(trainer)
    rng = np.random.default_rng(context.seed)
    steps, settled = context.pick((500, SETTLED), (40, 15))
    curve = []
    for number in range(1, steps + 1):
        step(trainer, cut(trainer, whole, rng if number > 2 else None))
        if number % 10 == 0:
            trainer.guard.judge()  # as at lines of the log; it also waits for the device
            curve.append({"step": number, **memory_now()})
            context.progress(f"{number} of {steps} steps")
    return judge_curve(curve, settled, context.pick(GROWTH_MIB, CPU_GROWTH_MIB))


def cut(trainer: object, batch: dict, rng: object | None) -> dict:
    """The batch's images down to a random height and width, multiples of 128 and half of the whole at least, with the
    targets that a reader would make for them; all of it without `rng`."""
    import numpy as np
    import paddle

    height, width = batch["image"].shape[2:]
    unit = 128 if min(height, width) >= 512 else 32

    def side(whole: int) -> int:
        return whole if rng is None else unit * int(rng.integers(whole // (2 * unit), whole // unit + 1))

    height, width = side(height), side(width)
    image = batch["image"][:, :, :height, :width]
    sample = {"image": np.empty((3, height, width), np.float32)}
    sample["gt_bbox"] = np.array([[4, 4, width / 2, height / 2]], np.float32)
    sample["gt_class"] = np.zeros((1, 1), np.int32)
    makers = [t for t in trainer.reader.batch_transforms if hasattr(t, "distances_in_strides")]
    (sample,) = makers[-1]([sample])
    targets = {key: np.stack([sample[key]] * len(image)) for key in sample if key.startswith("target_")}
    return {**batch, "image": image, **{key: paddle.to_tensor(value) for key, value in targets.items()}}


def memory_now() -> dict[str, int]:
    """MiB of this process: "host", and on a device "allocated" and "reserved"."""
    from ppdet.utils import device

    found = {name: mib(count) for name, count in (device.memory() or {}).items()}
    try:
        status = Path("/proc/self/status").read_text()
        found["host"] = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) >> 10
    except (OSError, TypeError):  # not Linux
        pass
    return found


def judge_curve(curve: list[dict], settled: int, room_mib: int) -> Outcome:
    """Raises Failed where memory at the end is more than about step `settled`, in medians of three."""
    numbers = {"curve": curve}
    early = [point for point in curve if point["step"] <= settled][-3:]
    parts, grown = [], []
    for name in (key for key in curve[-1] if key != "step"):
        # Of the host's pages, and of Paddle's reserved memory, some come and go.
        before = statistics.median(point[name] for point in early)
        after = statistics.median(point[name] for point in curve[-3:])
        room = max(GROWTH * before, room_mib)
        parts.append(f"{name} {before:.0f} to {after:.0f} MiB (limit {before + room:.0f})")
        grown += [name] * (after > before + room)
    detail = f"from step {settled} to {curve[-1]['step']}: {', '.join(parts)}"
    if grown:
        raise Failed(f"{', '.join(grown)} memory grows {detail}", **numbers)
    return Outcome(detail, numbers)
