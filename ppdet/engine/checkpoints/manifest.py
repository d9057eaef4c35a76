"""Files of a checkpoint, and how one knows that they are all there and as they were written.

A checkpoint is a few files that share a prefix, such as output/NAME/3: 3.pdparams (the averaged weights if there are
any), 3.pdema (then the trained ones), 3.pdopt (the optimizer's state), 3.pdranks (the ranks' own statistics of batch
norms, where they differ), 3.pdhooks (states of hooks, if any has one), and 3.json, the manifest. With weights_format:
safetensors the first two are 3.safetensors and 3.trained.safetensors. The manifest is written last and has every file's
size and SHA-256, and its own: a checkpoint is complete when it exists, and whole when they agree. It also has the names
of the classes.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.runs.moved import earlier_runs
from ppdet.utils.disk.files import is_count, is_number, read_own, write_json

FORMAT = 1
WEIGHTS = {"pdparams": ".pdparams", "safetensors": ".safetensors"}
TRAINED = {"pdparams": ".pdema", "safetensors": ".trained.safetensors"}  # beside averaged weights
OPTIMIZER, RANKS, HOOKS, MANIFEST = ".pdopt", ".pdranks", ".pdhooks", ".json"
LARGEST = 16 * 2**20  # bytes of a manifest
SUFFIXES = (*TRAINED.values(), *WEIGHTS.values(), OPTIMIZER, RANKS, HOOKS, MANIFEST)


class TrainingState(NamedTuple):
    """What a resumed run needs besides weights and optimizer.

    epoch: epochs done. images: done of the epoch under way, by all ranks together. iteration: updates done.
    steps_per_epoch: updates in an epoch. best_ap: of all evaluations, a fraction. evaluated: false while the evaluation
    that follows the checkpoint has not been done. history: [epoch, AP] of every evaluation. ema_step: updates of the
    averaged weights. loss_scale: of mixed precision in float16. seed: of the run.
    """

    epoch: int
    images: int
    iteration: int
    steps_per_epoch: int
    best_ap: float | None
    evaluated: bool
    history: list
    ema_step: int
    loss_scale: dict
    seed: int


def beside(prefix: Path, suffix: str) -> Path:
    """prefix + suffix; a prefix may hold dots."""
    return prefix.with_name(prefix.name + suffix)


def strip_suffix(prefix: str) -> Path:
    """The prefix of a checkpoint that the user named by it or by one of its files."""
    return Path(next((prefix[: -len(s)] for s in SUFFIXES if prefix.endswith(s)), prefix))


def checkpoint(name: str, folder: Path) -> Path:
    """The prefix of a checkpoint that the user named, where it is; `folder` is the run's own.

    Raises:
        CheckpointError: it is not there, but another of that name is, or there are others.
    """
    prefix = strip_suffix(name)
    if beside(prefix, MANIFEST).exists():
        return prefix
    own = folder / prefix.name
    if beside(own, MANIFEST).exists():
        raise CheckpointError(f"{name}: no such checkpoint; did you mean {own}?")
    place = prefix if prefix.is_dir() else prefix.parent if prefix.parent != Path() else folder
    there = sorted(path.stem for path in place.glob(f"*{OPTIMIZER}") if path.with_suffix(MANIFEST).exists())
    if there:
        advice = f"name one, such as {place / there[-1]}, or auto"
        raise CheckpointError(f"{name}: no such checkpoint; {place} has {', '.join(there)}: {advice}")
    return prefix


def remove(prefix: Path) -> None:
    """Remove a checkpoint's files, the manifest first, so that no checkpoint is ever half there."""
    for suffix in reversed(SUFFIXES):
        beside(prefix, suffix).unlink(missing_ok=True)


def link(path: Path, target: Path) -> None:
    """A second name for a file, which takes no room; a copy where the file system has no such names."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def write_sealed(path: Path, content: dict) -> None:
    """Write JSON that carries its own SHA-256."""
    write_json(path, {**content, "sha256": seal(content)})


def read_sealed(path: Path) -> dict:
    """What `write_sealed` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is not as it was written.
    """
    try:
        content = json.loads(read_own(path, LARGEST))
        if content.pop("sha256") == seal(content):
            return content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CheckpointError(f"{path}: damaged: take an older checkpoint of the run") from None


def seal(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> dict | None:
    """Content of a checkpoint's manifest, None if it is none or damaged."""
    try:
        content = read_sealed(path)
    except (OSError, CheckpointError):
        return None
    return content if is_checkpoint(content) else None


def files_seal(prefix: Path | None) -> str | None:
    """What tells the content of a checkpoint from that of all others, whatever its name; None if there is none."""
    manifest = prefix and read_manifest(beside(prefix, MANIFEST))
    return seal(manifest["files"]) if manifest else None


def find_checkpoint_again(prefix: Path, files: str | None) -> Path | None:
    """Where the checkpoint that was at `prefix` is now, under another name or in a run that was moved aside.

    `files` is its `files_seal`; with None, whatever has its name is taken for it. None where it has gone.
    """
    if files is None:
        return prefix if beside(prefix, MANIFEST).is_file() else None
    for folder in (prefix.parent, *earlier_runs(prefix.parent)):
        others = sorted(path.with_suffix("") for path in folder.glob(f"*{MANIFEST}"))
        for candidate in (folder / prefix.name, *others):
            if files_seal(candidate) == files:
                return candidate
    return None


def is_checkpoint(content: dict) -> bool:
    """Whether a manifest has what those of checkpoints have. A seal tells damage; anybody can make another one."""
    state, files = content.get("state"), content.get("files")
    return (
        isinstance(content.get("run"), str)
        and isinstance(state, dict)
        and is_state(state)
        and isinstance(files, dict)
        and OPTIMIZER in files
        and any(suffix in files for suffix in WEIGHTS.values())
        and all(suffix in SUFFIXES and isinstance(files[suffix], dict) for suffix in files)
        and all(is_count(file.get("bytes")) and isinstance(file.get("sha256"), str) for file in files.values())
    )


def is_state(state: dict) -> bool:
    """Whether a training state's numbers are numbers, and agree."""
    best, history, scale = state.get("best_ap"), state.get("history"), state.get("loss_scale")
    counts = ("epoch", "images", "iteration", "steps_per_epoch", "ema_step")
    return (
        all(is_count(state.get(name)) for name in counts)
        # max_iters cuts the last epoch short, but leaves some of it.
        and state["epoch"] * state["steps_per_epoch"] - state["iteration"] <= max(0, state["steps_per_epoch"] - 1)
        and type(state.get("seed")) is int
        and isinstance(state.get("evaluated"), bool)
        and (best is None or is_number(best))
        and isinstance(history, list)
        and all(isinstance(row, list) and len(row) == 2 and is_count(row[0]) and is_number(row[1]) for row in history)
        and isinstance(scale, dict)
        and (not scale or (is_number(scale.get("scale")) and is_count(scale.get("good_steps"))))
    )


def describe(path: Path) -> dict:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def check(prefix: Path) -> tuple[TrainingState, list[str]]:
    """State and files (their suffixes) of a checkpoint whose files are all there and as they were written.

    Raises:
        CheckpointError: one line that names the file.
    """
    manifest = beside(prefix, MANIFEST)
    try:
        content = read_sealed(manifest)
    except FileNotFoundError:
        raise CheckpointError(f"{manifest}: no such file: only a training run's own checkpoints resume") from None
    if "state" not in content:
        raise CheckpointError(f"{prefix}: weights alone, of the best epoch: only a run's own checkpoints resume")
    fields = set(content["state"]) if isinstance(content["state"], dict) else set()
    if content.get("format") != FORMAT or fields != set(TrainingState._fields):
        raise CheckpointError(f"{manifest}: written by another version: take that one, or start from the weights alone")
    if not is_checkpoint(content):
        raise CheckpointError(f"{manifest}: not what a training run writes: take an older checkpoint of the run")
    for suffix, expected in content["files"].items():
        path = beside(prefix, suffix)
        try:
            found = describe(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file, though {manifest.name} names it") from None
        if found != expected:
            sizes = f"{found['bytes']} bytes, {expected['bytes']} were written"
            raise CheckpointError(
                f"{path}: damaged ({sizes if found['bytes'] != expected['bytes'] else 'its content has changed'}): "
                "take an older checkpoint of the run"
            )
    return TrainingState(**content["state"]), list(content["files"])
