"""A look at a run before it starts: everything is built, a step is made, nothing is written."""

import datetime
import math
import shutil
import time
from pathlib import Path

import paddle
from paddle import Tensor

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.positives import boxes_in, no_positives
from ppdet.engine.runs.earlier_run import RunError, cleared_bytes
from ppdet.engine.runs.run_config import CONFIG_FILE
from ppdet.engine.runs.run_folder import NEWEST_KEPT, RUN_FILE
from ppdet.engine.runs.run_start import LOG_FILE, preview
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.losses import scalars
from ppdet.engine.training.memory import peak_memory
from ppdet.engine.training.schedule import plan_of, warn_of_misfits
from ppdet.utils import device
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
MIB = 2**20


def dry_run(trainer: Trainer) -> dict:
    """Make the trainer's next step twice, and report what the run would be. Checkpoints, logs, pictures: none.

    The first step prepares kernels and memory; the second, on the same images, tells how long a step takes. All ranks
    take part. The trainer is of no use afterwards: its weights have moved.

    Returns:
        What was found, on every rank; rank 0 has it in the log.
    """
    trainer.guard.path, trainer.guard.max_bad_steps = None, math.inf
    trainer.model.train()
    # A run that was stopped after an epoch's last step has none of it left.
    first_step = trainer.first_step % trainer.steps_per_epoch
    trainer.reader.set_epoch(trainer.epoch, first_step * trainer.accumulate)
    steps = trainer.read_steps()
    first_rate, iteration = trainer.optimizer.get_lr(), trainer.iteration
    started = time.perf_counter()
    trainer.batches = next(steps)
    data_seconds = time.perf_counter() - started
    steps.close()  # ends the workers

    # A step as most of the run will have them, not one of the first that does less.
    if trainer.method.complete_from < trainer.total_steps:
        trainer.iteration = max(iteration, trainer.method.complete_from)
    seconds = [timed_step(trainer) for _ in range(2)]
    with paddle.no_grad(), trainer.precision.context():
        maps = shapes_of(trainer.model.predict_maps(trainer.batches[0]["image"])._asdict())

    parameters = trainer.model.parameters()
    left = trainer.total_steps - iteration
    found = {
        "batch": shapes_of(trainer.batches[0]),
        "maps": maps,
        "parameters": sum(p.size for p in parameters),
        "trained_parameters": sum(p.size for p in parameters if p.trainable),
        "losses": {name: float(value) for name, value in scalars(trainer.losses).items()},
        "skipped_steps": trainer.guard.total,
        "boxes": sum(int(boxes_in(batch)) for batch in trainer.batches),
        "positives": int(trainer.losses["positives"].sum()),
        "max_mem_mib": largest(collectives.gather(peak_memory())),
        "data_seconds": data_seconds,
        "first_step_seconds": seconds[0],
        "step_seconds": seconds[1],
        "epoch_seconds": seconds[1] * trainer.steps_per_epoch,
        "run_seconds": seconds[1] * left,
        "steps_per_epoch": trainer.steps_per_epoch,
        "steps_left": left,
        "images_per_step": trainer.images_per_step,
        "learning_rate": {"first": first_rate, **warmed_up(trainer)},
        "resume": resume_decision(trainer),
        # Only rank 0's machine may have the files, and two ranks at once would find each other's lock.
        "folder": collectives.from_rank_0(lambda: preview(trainer.start), RunError),
        "writes": written(trainer),
        "checkpoint_bytes": checkpoint_bytes(trainer),
        "run_bytes": run_bytes(trainer),
        "free_bytes": free_bytes(trainer.output) + cleared_bytes(trainer.start),
    }
    report(trainer, found)
    return found


def timed_step(trainer: Trainer) -> float:
    """Seconds of one step, until the device is done."""
    start = time.perf_counter()
    trainer.train_step()
    device.synchronize()
    trainer.guard.judge()
    return time.perf_counter() - start


def shapes_of(fields: dict) -> dict[str, list]:
    """Shapes of tensors, and lists of shapes of lists of tensors; of a dict of them, under names joined by a dot."""
    shapes = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            shapes.update({f"{name}.{inner}": shape for inner, shape in shapes_of(value).items()})
        elif isinstance(value, Tensor):
            shapes[name] = list(value.shape)
        elif isinstance(value, list) and all(isinstance(item, Tensor) for item in value):
            shapes[name] = [list(item.shape) for item in value]
    return shapes


def warmed_up(trainer: Trainer) -> dict:
    """Learning rate after the warm-up, and the step at which it is reached, counted from 0."""
    warmup = trainer.schedule.warmup
    step = warmup.length(trainer.steps_per_epoch) if warmup else 0
    rate = trainer.schedule.rate(step, trainer.steps_per_epoch, trainer.steps_per_iteration)
    return {"warmed_up": rate, "warm_up_steps": step}


def resume_decision(trainer: Trainer) -> str:
    if trainer.resumed_from is None:
        return "none: a run of its own, from the beginning"
    done = f"{trainer.epoch} epochs and {trainer.first_step} steps of the next are done"
    return f"{trainer.resumed_from}: {done}"


def written(trainer: Trainer) -> list[str]:
    """Paths that the run would write; those of a checkpoint without their suffixes."""
    names = [RUN_FILE, CONFIG_FILE, LOG_FILE, "bad_steps.jsonl (if steps are skipped)"]
    names += [name for hook in trainer.hooks for name in hook.writes(trainer)]
    return [str(trainer.output / name) for name in names]


def checkpoint_bytes(trainer: Trainer) -> int:
    """Size of a checkpoint: weights, averaged weights if any, state of the optimizer."""
    weights = bytes_of(trainer.model.state_dict())
    return weights * (2 if trainer.ema else 1) + bytes_of(trainer.optimizer.state_dict())


def run_bytes(trainer: Trainer) -> int:
    """What all files of checkpoints that are there at one time take, the one that is being written included."""
    cfg, keep = trainer.cfg, trainer.folder.keep_every
    epochs = range(trainer.epoch + 1, trainer.epochs)
    stay = sum(epoch % cfg["snapshot_epoch"] == 0 and epoch % keep == 0 for epoch in epochs) if keep else 0
    others = sum(epoch % cfg["snapshot_epoch"] == 0 for epoch in epochs) - stay
    others = NEWEST_KEPT if cfg["snapshot_iters"] else min(others, NEWEST_KEPT)
    best = bytes_of(trainer.model.state_dict()) if trainer.evaluator else 0
    return checkpoint_bytes(trainer) * (stay + others + 1) + best


def bytes_of(state: dict) -> int:
    return sum(v.size * v.element_size() for v in state.values() if isinstance(v, Tensor))


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk that holds, or would hold, the folder."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free


def largest(memory: list[dict[str, int]]) -> dict[str, int]:
    """The largest of every kind of memory over ranks."""
    return {kind: max(one[kind] for one in memory) for kind in memory[0]}


def report(trainer: Trainer, found: dict) -> None:
    """Write what was found to the log."""
    plan = plan_of(trainer)
    rate = found["learning_rate"]
    levels = zip(trainer.model.locations.strides, *(found["maps"][name] for name in ("logits", "distances", "quality")))
    memory = ", ".join(f"{kind} {mib} MiB" for kind, mib in found["max_mem_mib"].items())
    lines = [
        *(f"batch: {name} {shape}" for name, shape in found["batch"].items()),
        *(f"maps at stride {stride}: logits {a}, distances {b}, quality {c}" for stride, a, b, c in levels),
        f"parameters: {found['parameters']:,}, of them trained {found['trained_parameters']:,}",
        f"boxes: {found['boxes']}, positive locations: {found['positives']}",
        "losses: " + " ".join(f"{name}: {value:.4f}" for name, value in found["losses"].items()),
        f"peak memory of a process: {memory}",
        f"seconds: {found['data_seconds']:.2f} first data, {found['first_step_seconds']:.2f} first step, "
        f"{found['step_seconds']:.2f} second step",
        f"epoch: {found['steps_per_epoch']} steps of {found['images_per_step']} images on "
        f"{collectives.world_size()} device(s), about {duration(found['epoch_seconds'])}; "
        f"whole run: {found['steps_left']} steps, about {duration(found['run_seconds'])}, without evaluation",
        f"learning rate: {rate['first']:g} at the first step, {rate['warmed_up']:g} from step "
        f"{rate['warm_up_steps'] + 1} on",
        plan.text(),
        f"resume: {found['resume']}",
        f"{trainer.output}: {found['folder']}",
        *(f"would write: {path}" for path in found["writes"]),
        f"a checkpoint takes {found['checkpoint_bytes'] / MIB:.1f} MiB, the disk has "
        f"{found['free_bytes'] / MIB:.0f} MiB free for them",
        "dry run: nothing was written",
    ]
    for line in lines:
        logger.info("%s", line)
    warn_of_misfits(plan)
    if found["boxes"] and not found["positives"]:
        logger.warning("%s", no_positives(1, trainer.images_per_step // collectives.world_size(), found["boxes"]))
    warn_of_disk(trainer, found)
    if found["skipped_steps"]:
        logger.warning(
            "%d of the 2 steps had gradients or running statistics that are infinite or not numbers",
            found["skipped_steps"],
        )


def warn_of_disk(trainer: Trainer, found: dict) -> None:
    if found["free_bytes"] < found["run_bytes"]:
        logger.warning(
            "%s will not hold this run: the checkpoints that are there at a time take %.0f MiB, %.0f MiB are free%s: "
            "make room, or set save_dir to another disk%s",
            *(trainer.output, found["run_bytes"] / MIB, found["free_bytes"] / MIB),
            ", not even enough for one" if found["free_bytes"] < found["checkpoint_bytes"] else "",
            ", or keep_checkpoints=0, with which the last two stay alone" if trainer.folder.keep_every else "",
        )


def duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
