"""Names of a checkpoint's files, its manifest, and verifying the files against it.

What a checkpoint consists of is described in `ppdet.engine.checkpoints`.
"""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import paddle

from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.utils.disk.files import copy_file, is_count, is_number, read_own, write_json

FORMAT = 1
WEIGHTS = {"pdparams": ".pdparams", "safetensors": ".safetensors"}
TRAINED = {"pdparams": ".pdema", "safetensors": ".trained.safetensors"}  # only beside averaged weights
OPTIMIZER, RANKS, HOOKS, MANIFEST = ".pdopt", ".pdranks", ".pdhooks", ".json"
MAX_BYTES = 16 * 2**20  # largest JSON file that is read
# The manifest is written last, and removed first.
SUFFIXES = (*TRAINED.values(), *WEIGHTS.values(), OPTIMIZER, RANKS, HOOKS, MANIFEST)


class TrainingState(NamedTuple):
    """The state that a resumed run needs in addition to weights and optimizer.

    Attributes:
        epoch: complete epochs.
        images: images of the next epoch that were trained on already, by all ranks together.
        iteration: updates of the weights so far.
        steps_per_epoch: updates in a whole epoch.
        best_ap: highest value of `best_by`, AP or another number, of all evaluations; None before the first that had a
            value.
        evaluated: False where the evaluation that is due after this checkpoint has not been made yet.
        history: [epochs, value of `best_by`] of every evaluation; NaN, null in the file, for one without a value.
        ema_step: updates of the averaged weights, 0 without averaging.
        loss_scale: {"scale", "good_steps"} of training in float16, else empty.
        seed: the run's seed.
    """

    epoch: int
    images: int
    iteration: int
    steps_per_epoch: int
    best_ap: float | None
    evaluated: bool
    history: list[list]
    ema_step: int
    loss_scale: dict[str, float]
    seed: int


class Manifest(NamedTuple):
    """A checkpoint's manifest: id of the run that wrote it, its training state, and `fingerprint`s by suffix."""

    run: str
    state: TrainingState
    files: dict[str, dict[str, Any]]


def beside(prefix: Path, suffix: str) -> Path:
    """Append a suffix to a prefix that may contain dots itself: output/v1.2 and .json give output/v1.2.json."""
    return prefix.with_name(prefix.name + suffix)


def strip_suffix(path: str) -> Path:
    """Return the prefix of a checkpoint that is named by its prefix or by one of its files."""
    return Path(next((path[: -len(suffix)] for suffix in SUFFIXES if path.endswith(suffix)), path))


def weights_file(prefix: Path) -> Path | None:
    """Return the file with the weights of a checkpoint, None if it does not exist."""
    files = (beside(prefix, suffix) for suffix in WEIGHTS.values())
    return next((path for path in files if path.is_file()), None)


def resolve_checkpoint(name: str, folder: Path) -> Path:
    """Return the prefix of the checkpoint that a user named.

    Args:
        name: prefix or file of a checkpoint, such as output/NAME/3.
        folder: the run's folder, for the error's advice.

    Raises:
        CheckpointError: it does not exist, and the message can name one that does.
    """
    prefix = strip_suffix(name)
    if beside(prefix, MANIFEST).exists():
        return prefix
    own = folder / prefix.name
    if beside(own, MANIFEST).exists():
        raise CheckpointError(f"{name}: no such checkpoint; did you mean {own}?")
    place = prefix if prefix.is_dir() else prefix.parent if prefix.parent != Path() else folder
    existing = sorted(path.stem for path in place.glob(f"*{OPTIMIZER}") if path.with_suffix(MANIFEST).exists())
    if existing:
        advice = f"name one, such as {place / existing[-1]}, or auto"
        raise CheckpointError(f"{name}: no such checkpoint; {place} has {', '.join(existing)}: {advice}")
    return prefix  # read_verified raises the error


def remove_checkpoint(prefix: Path) -> None:
    """Remove a checkpoint's files, the manifest first, so that no manifest names files that are gone."""
    for suffix in reversed(SUFFIXES):
        beside(prefix, suffix).unlink(missing_ok=True)


def link_or_copy(path: Path, target: Path) -> None:
    """Make `target` a hard link to a file, or a copy where the file system has no hard links."""
    try:
        os.link(path, target)
    except OSError:
        copy_file(path, target)


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with the SHA-256 of its own content, by which `read_sealed` notices damage."""
    write_json(path, {**content, "sha256": json_sha256(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a file of `write_sealed`, and check its SHA-256.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: it is damaged, or something else.
    """
    try:
        content = json.loads(read_own(path, MAX_BYTES))
        if content.pop("sha256") == json_sha256(content):
            return content
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CheckpointError(f"{path}: damaged: take an older checkpoint of the run") from None


def json_sha256(content: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, Any]:
    """Return a file's size and hash: {"bytes": …, "sha256": …}."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def write_manifest(prefix: Path, manifest: Manifest, **more: Any) -> None:
    """Write the manifest of the checkpoint `prefix`; `more` is added to it, such as the classes."""
    content = {"format": FORMAT, "run": manifest.run, "paddle": paddle.__version__, "files": manifest.files}
    state = manifest.state._asdict()
    state["best_ap"] = _or_null(state["best_ap"])
    state["history"] = [[epoch, _or_null(value)] for epoch, value in state["history"]]
    write_sealed(beside(prefix, MANIFEST), {**content, **more, "state": state})


def _or_null(value: float | None) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if value is None or math.isnan(value) else value


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None if the file is missing, damaged, or no manifest."""
    try:
        return parse_manifest(read_sealed(path))
    except (OSError, CheckpointError):
        return None


def parse_manifest(content: dict[str, Any]) -> Manifest | None:
    """Return the content of a manifest; None if a field has another type than `write_manifest` writes.

    The checksum only shows damage: any program can write other content with a checksum that matches.
    """
    run, state, files = content.get("run"), content.get("state"), content.get("files")
    if not (isinstance(run, str) and isinstance(state, dict) and isinstance(files, dict)):
        return None
    is_valid = (
        set(state) == set(TrainingState._fields)
        and is_state(state)
        and OPTIMIZER in files
        and any(suffix in files for suffix in WEIGHTS.values())
        and all(suffix in SUFFIXES and isinstance(files[suffix], dict) for suffix in files)
        and all(is_count(file.get("bytes")) and isinstance(file.get("sha256"), str) for file in files.values())
    )
    if not is_valid:
        return None
    history = [[epoch, math.nan if value is None else value] for epoch, value in state["history"]]
    best = _or_null(state["best_ap"])  # earlier versions could write NaN
    return Manifest(run, TrainingState(**{**state, "history": history, "best_ap": best}), files)


def is_state(state: dict[str, Any]) -> bool:
    """Whether the values of a training state have the right types, and its counts agree with each other."""
    best, history, scale = state.get("best_ap"), state.get("history"), state.get("loss_scale")
    counts = ("epoch", "images", "iteration", "steps_per_epoch", "ema_step")
    return (
        all(is_count(state.get(name)) for name in counts)
        # All epochs are complete except the last one, in which max_iters may end the run after its first step.
        and state["epoch"] * state["steps_per_epoch"] - state["iteration"] <= max(0, state["steps_per_epoch"] - 1)
        and type(state.get("seed")) is int
        and isinstance(state.get("evaluated"), bool)
        and _is_result(best)
        and isinstance(history, list)
        and all(isinstance(row, list) and len(row) == 2 and is_count(row[0]) and _is_result(row[1]) for row in history)
        and isinstance(scale, dict)
        and (not scale or (is_number(scale.get("scale")) and is_count(scale.get("good_steps"))))
    )


def _is_result(value: Any) -> bool:
    """Whether a value from JSON is that of an evaluation: a number, or null or NaN for none."""
    return value is None or is_number(value) or (type(value) is float and math.isnan(value))


def content_hash(prefix: Path | None) -> str | None:
    """Return a hash of a checkpoint's files, which renaming does not change; None if there is no readable manifest."""
    manifest = read_manifest(beside(prefix, MANIFEST)) if prefix else None
    return json_sha256(manifest.files) if manifest else None


def read_verified(prefix: Path) -> Manifest:
    """Read the manifest of a checkpoint, and compare every file with it.

    Raises:
        CheckpointError: a file is missing, damaged, or not of a training run; the message names it.
    """
    path = beside(prefix, MANIFEST)
    try:
        content = read_sealed(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file: only checkpoints that a training run wrote can be resumed"
        ) from None
    if "state" not in content:
        raise CheckpointError(f"{prefix}: weights of the best epoch without training state: resume another checkpoint")
    fields = set(content["state"]) if isinstance(content["state"], dict) else set()
    if content.get("format") != FORMAT or fields != set(TrainingState._fields):
        raise CheckpointError(
            f"{path}: written by another version of ppdet: resume with that version, or start from the weights alone "
            "with pretrain_weights"
        )
    manifest = parse_manifest(content)
    if manifest is None:
        raise CheckpointError(f"{path}: not a manifest of a training run: take an older checkpoint of the run")
    for suffix, expected in manifest.files.items():
        verify_file(beside(prefix, suffix), expected)
    return manifest


def verify_file(path: Path, expected: dict[str, Any]) -> None:
    """Raise CheckpointError where a file does not have the `fingerprint` that was written."""
    try:
        actual = fingerprint(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file, although the checkpoint's manifest names it") from None
    if actual != expected:
        sizes = f"{actual['bytes']} bytes, expected {expected['bytes']}"
        reason = sizes if actual["bytes"] != expected["bytes"] else "its content has changed"
        raise CheckpointError(f"{path}: damaged ({reason}): take an older checkpoint of the run")
