"""Checkpoints of a training run: whatever happens while one is written, an earlier one stays whole.

A checkpoint is a few files that share a prefix, such as output/NAME/3: 3.pdparams (the averaged weights if there are
any), 3.pdema (then the trained ones), 3.pdopt (the optimizer's state), and 3.json, the manifest. The manifest is
written last and has every file's size and SHA-256: a checkpoint is complete when it exists, and whole when it agrees.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import paddle
from paddle import nn

from ppdet.engine import distributed
from ppdet.engine.weights import CheckpointError, fill, read_arrays, save_weights
from ppdet.utils.files import write_json
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

FORMAT = 1
SUFFIXES = (".pdparams", ".pdema", ".pdopt", ".json")
RUN_FILE = "run.json"
NEWEST_KEPT = 2  # the last one, and the one before it in case the last is damaged


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
    best_ap: Optional[float]
    evaluated: bool
    history: list
    ema_step: int
    loss_scale: dict
    seed: int


class Saved(NamedTuple):
    """A checkpoint's content, as arrays."""

    state: TrainingState
    weights: dict
    averages: Optional[dict]
    optimizer: dict


def beside(prefix: Path, suffix: str) -> Path:
    """prefix + suffix; a prefix may hold dots."""
    return prefix.with_name(prefix.name + suffix)


def strip_suffix(prefix: str) -> Path:
    """The prefix of a checkpoint that the user named by it or by one of its files."""
    return Path(next((prefix[: -len(s)] for s in SUFFIXES if prefix.endswith(s)), prefix))


class RunFolder:
    """The checkpoints of one run in its folder.

    A run has an id, so that checkpoints that an earlier run left in the same folder are not taken for its own.

    Args:
        keep_every: of the checkpoints at epochs' ends every n-th stays; others go when two newer ones are complete.
    """

    def __init__(self, folder: Path, keep_every: int) -> None:
        self.folder = folder
        self.keep_every = keep_every
        self.id = ""

    def begin(self, resumed_from: Optional[Path], *, go_on: bool) -> None:
        """Start a run of its own, from nothing or from a checkpoint; or go on with the one that `newest` found."""
        self.clean()
        if go_on and self.id:
            return
        self.id = uuid.uuid4().hex
        write_json(self.folder / RUN_FILE, {"id": self.id, "resumed_from": resumed_from and str(resumed_from)})

    def clean(self) -> None:
        """Remove what a process that was killed while writing has left."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)

    def newest(self) -> Optional[Path]:
        """Prefix of this folder's newest whole checkpoint; damaged ones are passed over with a warning."""
        try:
            run = json.loads((self.folder / RUN_FILE).read_text())
            self.id, resumed_from = run["id"], run["resumed_from"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        for prefix in self.checkpoints():
            try:
                check(prefix)
            except CheckpointError as error:
                logger.warning("damaged checkpoint passed over: %s", error)
            else:
                return prefix
        return Path(resumed_from) if resumed_from else None

    def checkpoints(self) -> list[Path]:
        """Prefixes of this run's complete checkpoints, newest first."""
        found = []
        for path in self.folder.glob("*.json"):
            try:
                manifest = json.loads(path.read_text())
                if manifest["run"] == self.id:
                    found.append((manifest["state"]["iteration"], path.with_suffix("")))
            except (OSError, ValueError, KeyError, TypeError):
                if path.name != RUN_FILE:
                    logger.warning("damaged checkpoint passed over: %s is not a manifest", path)
        return [prefix for _, prefix in sorted(found, reverse=True)]

    def save(self, name: str, state: TrainingState, model: nn.Layer, optimizer: object, ema: Optional[object]) -> Path:
        """Write a checkpoint, then remove those that are not to be kept. Returns its prefix.

        Raises:
            OSError: it could not be written. What was there before is as it was, but for one of the same name.
        """
        prefix = self.folder / name
        beside(prefix, ".json").unlink(missing_ok=True)
        contents = {".pdparams": (model if ema is None else ema).state_dict()}
        if ema is not None:
            contents[".pdema"] = model.state_dict()
        contents[".pdopt"] = optimizer_state(model, optimizer)
        try:
            for suffix, content in contents.items():
                save_weights(content, beside(prefix, suffix))
            self.write_manifest(prefix, state, list(contents))
        except OSError:
            # Half a checkpoint is of no use, and its room may be needed.
            for suffix in contents:
                beside(prefix, suffix).unlink(missing_ok=True)
            raise
        self.prune()
        return prefix

    def write_manifest(self, prefix: Path, state: TrainingState, suffixes: Sequence[str]) -> None:
        files = {suffix: describe(beside(prefix, suffix)) for suffix in suffixes}
        manifest = {"format": FORMAT, "run": self.id, "paddle": paddle.__version__, "files": files}
        write_json(beside(prefix, ".json"), {**manifest, "state": state._asdict()})

    def update_state(self, name: str, state: TrainingState) -> None:
        """Give a checkpoint another state; its files stay."""
        prefix = self.folder / name
        manifest = json.loads(beside(prefix, ".json").read_text())
        write_json(beside(prefix, ".json"), {**manifest, "state": state._asdict()})

    def prune(self) -> None:
        for prefix in self.checkpoints()[NEWEST_KEPT:]:
            name = prefix.name
            is_kept = name.isdigit() and self.keep_every and (int(name) + 1) % self.keep_every == 0
            if not is_kept and (name.isdigit() or name.startswith("snapshot_")):
                # The manifest first: what is left if the process is killed here is no checkpoint any more.
                for suffix in reversed(SUFFIXES):
                    beside(prefix, suffix).unlink(missing_ok=True)


def describe(path: Path) -> dict:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def check(prefix: Path) -> TrainingState:
    """State of a checkpoint whose files are all there and as they were written.

    Raises:
        CheckpointError: one line that names the file.
    """
    manifest = beside(prefix, ".json")
    try:
        content = json.loads(manifest.read_text())
        state = TrainingState(**content["state"])
        files = {str(suffix): dict(entry) for suffix, entry in content["files"].items()}
    except FileNotFoundError:
        raise CheckpointError(f"{manifest}: no such file: only a training run's own checkpoints resume") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError(f"{manifest}: damaged: take an older checkpoint of the run") from None
    for suffix, expected in files.items():
        path = beside(prefix, suffix)
        try:
            found = describe(path)
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such file, though {manifest.name} names it") from None
        if found != expected:
            sizes = f"{found['bytes']} bytes, {expected.get('bytes')} were written"
            raise CheckpointError(
                f"{path}: damaged ({sizes if found['bytes'] != expected.get('bytes') else 'its content has changed'}): "
                "take an older checkpoint of the run"
            )
    return state


def read_training(prefix: Path) -> Saved:
    """Check and read a checkpoint.

    Raises:
        CheckpointError: one of its files is missing or damaged.
    """
    state = check(prefix)
    weights, averages = read_arrays(beside(prefix, ".pdparams")), None
    if beside(prefix, ".pdema").is_file():
        weights, averages = read_arrays(beside(prefix, ".pdema")), weights
    return Saved(state, weights, averages, read_arrays(beside(prefix, ".pdopt")))


def load_training(prefix: Path, model: nn.Layer, optimizer: object, ema: Optional[object]) -> TrainingState:
    """Restore what `RunFolder.save` wrote. Rank 0 reads; the others, who may be on other machines, get it from there.

    Raises:
        CheckpointError: a file is missing or damaged, or of another model.
    """
    saved = distributed.from_rank_0(lambda: read_training(prefix), CheckpointError)
    if ema is not None and saved.averages is None:
        raise CheckpointError(f"{prefix}.pdema: no such file: the checkpoint was written without use_ema")
    fill(model, saved.weights, strict=True, source=str(prefix))
    if ema is not None:
        ema.set_state_dict({name: saved.averages[name] for name in ema.state_dict()}, saved.state.ema_step)
    set_optimizer_state(model, optimizer, saved.optimizer)
    state = saved.state
    logger.info("resumed from %s: %d epochs, %d steps done", prefix, state.epoch, state.iteration)
    return state


def optimizer_state(model: nn.Layer, optimizer: object) -> dict:
    """Optimizer state under the model's names: Paddle's own names depend on what else the process has built."""
    names = {p.name: name for name, p in model.named_parameters()}
    longest_first = sorted(names, key=len, reverse=True)
    state = {}
    for key, value in optimizer.state_dict().items():
        if key == "master_weights":
            state[key] = {names[parameter]: weight for parameter, weight in value.items()}
            continue
        parameter = next((p for p in longest_first if key.startswith(p + "_")), None)
        state[key if parameter is None else f"{names[parameter]}|{key[len(parameter) :]}"] = value
    return state


def set_optimizer_state(model: nn.Layer, optimizer: object, state: dict) -> None:
    names = {name: p.name for name, p in model.named_parameters()}
    restored = {}
    for key, value in state.items():
        parameter, bar, suffix = key.partition("|")
        if bar and parameter not in names:
            raise CheckpointError(f"the optimizer state is of another model: it names {parameter}")
        if key == "master_weights":
            value = {names[name]: weight for name, weight in value.items()}
        restored[names[parameter] + suffix if bar else key] = value
    optimizer.set_state_dict(restored)
