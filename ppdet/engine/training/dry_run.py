"""`--dry_run`: build everything, make two steps, and report what the run would be, without writing anything."""

import datetime
import math
import shutil
import time
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor

from ppdet.data.transforms import Transform
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.auto_ratio import AutoRatioHook
from ppdet.engine.hooks.location_warnings import boxes_in, no_positives
from ppdet.engine.runs.earlier_run import RunError, deleted_bytes
from ppdet.engine.runs.run_config import CONFIG_FILE
from ppdet.engine.runs.run_folder import NEWEST_KEPT, RUN_FILE
from ppdet.engine.runs.run_start import LOG_FILE, preview
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.losses import scalars
from ppdet.engine.training.schedule import plan_of, warn_of_misfits
from ppdet.utils import device
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted
from ppdet.utils.process.memory import peak_memory

logger = get_logger(__name__)
MIB = 2**20


def dry_run(trainer: Trainer) -> dict[str, Any]:
    """Make the trainer's next step twice, and log what the run would be.

    The first step prepares kernels and memory; the second one, on the same images, is timed. Of random sizes, the
    images have the largest ones. All ranks take part. The trainer cannot be used afterwards, since its weights and its
    transforms have changed.

    Returns:
        The facts that the log reports, by name, on every rank.
    """
    first_rate, iteration = trainer.optimizer.get_lr(), trainer.iteration
    has_random_sizes = keep_largest_sizes(trainer)
    data_seconds = prepare_step(trainer)
    seconds = [timed_step(trainer) for _ in range(2)]
    with paddle.no_grad(), trainer.precision.context():
        maps = shapes_of(trainer.model.predict_maps(trainer.batches[0]["image"])._asdict())

    parameters = trainer.model.parameters()
    left = trainer.total_steps - iteration
    memory = collectives.gather(peak_memory())
    facts: dict[str, Any] = {
        "batch": shapes_of(trainer.batches[0]),
        "largest_sizes": has_random_sizes,
        "maps": maps,
        "parameters": sum(p.size for p in parameters),
        "trained_parameters": sum(p.size for p in parameters if p.trainable),
        "losses": {name: float(value) for name, value in scalars(trainer.losses).items()},
        "skipped_steps": trainer.guard.total,
        "boxes": sum(int(boxes_in(batch)) for batch in trainer.batches),
        "positives": int(trainer.losses["positives"].sum()) if "positives" in trainer.losses else None,
        "max_mem_mib": {kind: max(one[kind] for one in memory) for kind in memory[0]},
        "data_seconds": data_seconds,
        "first_step_seconds": seconds[0],
        "step_seconds": seconds[1],
        "epoch_seconds": seconds[1] * trainer.steps_per_epoch,
        "run_seconds": seconds[1] * left,
        "steps_per_epoch": trainer.steps_per_epoch,
        "steps_left": left,
        "images_per_step": trainer.images_per_step,
        "learning_rate": {"first": first_rate, **warmed_up_rate(trainer)},
        "resume": resume_decision(trainer),
        # On rank 0 only: other machines may not have the files, and two ranks would see each other's lock.
        "folder": collectives.from_rank_0(lambda: preview(trainer.start), RunError),
        "writes": written_paths(trainer),
        "checkpoint_bytes": checkpoint_bytes(trainer),
        "run_bytes": run_bytes(trainer),
        "free_bytes": free_bytes(trainer.output) + deleted_bytes(trainer.start),
    }
    report(trainer, facts)
    return facts


def prepare_step(trainer: Trainer) -> float:
    """Read the batches of the trainer's next step for `timed_step`, and return how long it took in seconds.

    The step will have all kinds of passes, as most steps of the run; the first ones may have fewer. Steps with
    gradients that are not finite will neither end the process nor be written to a file.
    """
    trainer.guard.path, trainer.guard.max_bad_steps = None, math.inf
    trainer.model.train()
    # If the run was stopped after the last step of an epoch, this epoch has no steps left: take its first ones.
    first_step = trainer.first_step % trainer.steps_per_epoch
    trainer.reader.set_epoch(trainer.epoch, first_step * trainer.accumulate)
    steps = trainer.read_steps()
    started = time.perf_counter()
    trainer.batches = next(steps)
    seconds = time.perf_counter() - started
    steps.close()  # stops the reader's workers
    for hook in trainer.hooks:
        if isinstance(hook, AutoRatioHook):  # the loss on unlabeled images needs its ratio
            hook.before_train(trainer)
            hook.before_step(trainer)
    if trainer.method.complete_from < trainer.total_steps:
        trainer.iteration = max(trainer.iteration, trainer.method.complete_from)
    return seconds


def keep_largest_sizes(trainer: Trainer) -> bool:
    """Let the reader draw only the largest of random sizes, which decide about memory; return whether there are any."""
    readers = [trainer.reader, getattr(trainer.reader, "unlabeled", trainer.reader)]
    transforms = {id(one): one for it in readers for one in (*it.sample_transforms, *it.batch_transforms)}.values()
    return sum(one.keep_largest() for one in transforms if isinstance(one, Transform)) > 0


def timed_step(trainer: Trainer) -> float:
    """Return how long a step takes, in seconds, including the work of the device."""
    start = time.perf_counter()
    trainer.train_step()
    device.synchronize()
    trainer.guard.read_pending_checks()
    return time.perf_counter() - start


def shapes_of(fields: dict[str, Any]) -> dict[str, list]:
    """Return the shapes of tensors and of lists of tensors; nested keys are joined: "outer.inner"."""
    shapes: dict[str, list] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            shapes.update({f"{name}.{inner}": shape for inner, shape in shapes_of(value).items()})
        elif isinstance(value, Tensor):
            shapes[name] = list(value.shape)
        elif isinstance(value, list) and all(isinstance(item, Tensor) for item in value):
            shapes[name] = [list(item.shape) for item in value]
    return shapes


def warmed_up_rate(trainer: Trainer) -> dict[str, float]:
    """Return the learning rate after the warm-up, and the number of warm-up steps."""
    plan = plan_of(trainer)
    return {"warmed_up": plan.rate(plan.warmup + 1), "warm_up_steps": plan.warmup}


def resume_decision(trainer: Trainer) -> str:
    """Return which checkpoint the run resumes, in words."""
    if trainer.resumed_from is None:
        return "no, the run starts from the beginning"
    done = f"{counted(trainer.epoch, 'epoch')} and {counted(trainer.first_step, 'step')} of the next are done"
    return f"{trainer.resumed_from}: {done}"


def written_paths(trainer: Trainer) -> list[str]:
    """Return the paths that the run would write."""
    names = [RUN_FILE, CONFIG_FILE, LOG_FILE, "bad_steps.jsonl (if steps are skipped)"]
    names += [name for hook in trainer.hooks for name in hook.writes(trainer)]
    return [str(trainer.output / name) for name in names]


def checkpoint_bytes(trainer: Trainer) -> int:
    """Return the size of a checkpoint: weights, averaged weights if there are any, and optimizer state."""
    weights = bytes_of(trainer.model.state_dict())
    return weights * (2 if trainer.ema else 1) + bytes_of(trainer.optimizer.state_dict())


def run_bytes(trainer: Trainer) -> int:
    """Return how many bytes the run's checkpoints take at most, while one more is being written."""
    cfg, keep = trainer.cfg, trainer.folder.keep_every
    saved = [epoch for epoch in range(trainer.epoch + 1, trainer.epochs) if epoch % cfg["snapshot_epoch"] == 0]
    kept = sum(epoch % keep == 0 for epoch in saved) if keep else 0
    newest = NEWEST_KEPT if cfg["snapshot_iters"] else min(len(saved) - kept, NEWEST_KEPT)
    best = bytes_of(trainer.model.state_dict()) if trainer.evaluator else 0
    return checkpoint_bytes(trainer) * (kept + newest + 1) + best


def bytes_of(state: dict[str, Any]) -> int:
    """Return the size of all tensors in a state dict."""
    return sum(v.size * v.element_size() for v in state.values() if isinstance(v, Tensor))


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk that holds, or would hold, a folder."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(existing).free


def report(trainer: Trainer, facts: dict[str, Any]) -> None:
    """Log the facts of a dry run, and warnings about them."""
    plan = plan_of(trainer)
    rate = facts["learning_rate"]
    levels = zip(trainer.model.locations.strides, *(facts["maps"][name] for name in ("logits", "distances", "quality")))
    memory = ", ".join(f"{kind} {mib} MiB" for kind, mib in facts["max_mem_mib"].items())
    lines = [
        *(f"batch: {name} {shape}" for name, shape in facts["batch"].items()),
        *(["sizes are random: memory and time are those of the largest ones"] if facts["largest_sizes"] else []),
        *(f"maps at stride {stride}: logits {a}, distances {b}, quality {c}" for stride, a, b, c in levels),
        f"parameters: {facts['parameters']:,}, of them trained {facts['trained_parameters']:,}",
        f"boxes: {facts['boxes']}"
        + ("" if facts["positives"] is None else f", positive locations: {facts['positives']}"),
        "losses: " + " ".join(f"{name}: {value:.4f}" for name, value in facts["losses"].items()),
        f"peak memory of a process: {memory}",
        f"seconds: {facts['data_seconds']:.2f} first data, {facts['first_step_seconds']:.2f} first step, "
        f"{facts['step_seconds']:.2f} second step",
        f"epoch: {counted(facts['steps_per_epoch'], 'step')} of {counted(facts['images_per_step'], 'image')} on "
        f"{counted(collectives.world_size(), 'device')}, about {duration(facts['epoch_seconds'])}; whole run: "
        f"{counted(facts['steps_left'], 'step')}, about {duration(facts['run_seconds'])}, without evaluation",
        f"learning rate: {rate['first']:g} at the first step, {rate['warmed_up']:g} from step "
        f"{rate['warm_up_steps'] + 1} on",
        plan.text(),
        f"resume: {facts['resume']}",
        f"{trainer.output}: {facts['folder']}",
        *(f"would write: {path}" for path in facts["writes"]),
        f"a checkpoint takes {facts['checkpoint_bytes'] / MIB:.1f} MiB, the disk has "
        f"{facts['free_bytes'] / MIB:.0f} MiB free for them",
        "dry run: nothing was written",
    ]
    for line in lines:
        logger.info("%s", line)
    warn_of_misfits(plan)
    if facts["boxes"] and facts["positives"] == 0:
        logger.warning("%s", no_positives(1, trainer.images_per_step // collectives.world_size(), facts["boxes"]))
    warn_of_disk(trainer, facts)
    if facts["skipped_steps"]:
        logger.warning(
            "%d of the 2 steps had gradients or running statistics that are infinite or not numbers",
            facts["skipped_steps"],
        )


def warn_of_disk(trainer: Trainer, facts: dict[str, Any]) -> None:
    """Warn if the disk is too small for the run's checkpoints."""
    if facts["free_bytes"] < facts["run_bytes"]:
        logger.warning(
            "%s will not hold this run: its checkpoints take up to %.0f MiB at a time, %.0f MiB are free%s: "
            "make room, or set save_dir to another disk%s",
            *(trainer.output, facts["run_bytes"] / MIB, facts["free_bytes"] / MIB),
            ", not even enough for one" if facts["free_bytes"] < facts["checkpoint_bytes"] else "",
            ", or keep_checkpoints=0, which keeps only the last two" if trainer.folder.keep_every else "",
        )


def duration(seconds: float) -> str:
    """Return a time span as text, such as 1:02:03."""
    return str(datetime.timedelta(seconds=round(seconds)))
