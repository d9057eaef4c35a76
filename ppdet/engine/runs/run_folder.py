"""Checkpoints of a training run: whatever happens while one is written, an earlier one stays whole."""

import contextlib
import json
import os
import uuid
from pathlib import Path

import paddle
from paddle import nn

from ppdet.data.classes import Classes
from ppdet.engine.checkpoints.class_names import as_json
from ppdet.engine.checkpoints.manifest import (
    FORMAT,
    HOOKS,
    MANIFEST,
    OPTIMIZER,
    RANKS,
    TRAINED,
    WEIGHTS,
    TrainingState,
    beside,
    check,
    checkpoint,
    describe,
    files_seal,
    find_checkpoint_again,
    link,
    read_manifest,
    read_sealed,
    remove,
    write_sealed,
)
from ppdet.engine.checkpoints.state import optimizer_state
from ppdet.engine.checkpoints.weights import CheckpointError, save_weights
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

BEST = "best_model"
RUN_FILE = "run.json"
NEWEST_KEPT = 2  # the last one, and the one before it in case the last is damaged


class RunFolder:
    """The checkpoints of one run in its folder.

    A run has an id, so that checkpoints that an earlier run left in the same folder are not taken for its own.

    Args:
        keep_every: of the checkpoints at epochs' ends every n-th stays; others go when two newer ones are complete.
        weights_format: pdparams or safetensors.
    """

    def __init__(self, folder: Path, *, keep_every: int, weights_format: str = "pdparams") -> None:
        self.folder = folder
        self.keep_every = keep_every
        self.weights_format = weights_format
        self.classes: Classes | None = None  # noted beside all weights that are written
        self.id = ""
        self.resumed_from: Path | None = None
        self.resumed_files: str | None = None  # `files_seal` of that checkpoint: another may take its name
        self.seen: dict | None = None  # `seals` when it was decided what the run starts from
        # Weights that were moved with the run that was here; or those of another run, and its id.
        self.pretrained_from: str | None = None
        self.pretrained_run: str | None = None

    def begin(self, resumed_from: Path | None, *, go_on: bool, folder: Path | None = None) -> None:
        """Start a run of its own, from nothing or from a checkpoint; or go on with the one that `newest` found.

        `folder` is one that gets the run's name next; None for the run's own.
        """
        if not (go_on and self.id):
            self.id, self.resumed_from = uuid.uuid4().hex, resumed_from
            self.resumed_files = self.resumed_files or files_seal(resumed_from)
        self.clean()
        source = self.resumed_from and self.resumed_from.absolute()
        if source and source.parent == self.folder.absolute():
            source = source.name  # which stays true wherever the folder goes
        place = Path.cwd()
        content = {
            "id": self.id,
            "resumed_from": source and str(source),
            "resumed_files": self.resumed_files,
            "pretrained_from": self.pretrained_from,
            "pretrained_run": self.pretrained_run,
            "started_in": [os.path.relpath(place, self.folder.resolve()), str(place)],
        }
        write_sealed((folder or self.folder) / RUN_FILE, content)

    def clean(self) -> None:
        """Remove what a process that was killed while writing, or removing, has left."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        for path in self.folder.glob(f"snapshot_*{OPTIMIZER}"):
            prefix = path.with_name(path.name[: -len(OPTIMIZER)])
            if not beside(prefix, MANIFEST).exists():
                remove(prefix)

    def newest(self) -> Path | None:
        """Prefix of this folder's newest whole checkpoint; damaged ones are passed over with a warning."""
        self.read_run()
        for prefix in self.checkpoints(warn=True):
            try:
                check(prefix)
            except CheckpointError as error:
                logger.warning("damaged checkpoint passed over: %s", error)
            else:
                return prefix
        source = self.resumed_from
        if source is None:
            return None
        self.resumed_from = find_checkpoint_again(source, self.resumed_files)
        if self.resumed_from is None:
            raise CheckpointError(
                f"{self.folder / RUN_FILE}: the run there went on from {source}, has no checkpoint of its own, and "
                "that one is gone: leave -r out, or give it another checkpoint"
            )
        if self.resumed_from != source:
            logger.info("%s, which the run went on from, is %s now", source, self.resumed_from)
        return self.resumed_from

    def newest_and_start(self) -> tuple[Path | None, str | None, str | None]:
        """`newest`, and the weights that the run started from, see `pretrained_from` and `pretrained_run`."""
        self.seen = self.seals()
        return self.newest(), self.pretrained_from, self.pretrained_run

    def named(self, name: str) -> Path:
        """Prefix of the checkpoint that the user named, to start a run from it.

        Raises:
            CheckpointError: it is not there, but another of that name is, or there are others.
        """
        self.seen = self.seals()
        prefix = checkpoint(name, self.folder)
        self.resumed_files = files_seal(prefix)
        return prefix

    def seals(self) -> dict[str, tuple[int, int]]:
        """What changes when a run begins in the folder, or writes or removes a checkpoint there."""
        paths = [
            *self.folder.glob(RUN_FILE),
            *(path.with_suffix(MANIFEST) for path in self.folder.glob(f"*{OPTIMIZER}")),
        ]
        status = {path.name: path.stat() for path in paths if path.is_file()}
        return {name: (found.st_ino, found.st_mtime_ns) for name, found in status.items()}

    def read_run(self) -> None:
        """Find out which run was the last one in this folder."""
        path = self.folder / RUN_FILE
        try:
            run = read_sealed(path)
            if not is_run(run):
                raise CheckpointError(f"{path}: not what a training run writes")
            # A name alone is a checkpoint in this folder.
            self.id, self.resumed_from = run["id"], run["resumed_from"] and self.folder / run["resumed_from"]
            self.resumed_files, self.pretrained_from = run.get("resumed_files"), run.get("pretrained_from")
            self.pretrained_run = run.get("pretrained_run")
            return
        except FileNotFoundError:
            problem = "missing"
        except CheckpointError:
            problem = "damaged"
        paths = (path for path in self.folder.glob("*.json") if path.is_file())
        manifests = sorted(paths, key=lambda manifest: manifest.stat().st_mtime)
        runs = [content["run"] for content in map(read_manifest, manifests) if content]
        if runs or problem == "damaged":
            logger.warning("%s is %s: going by the checkpoint that was written last", path, problem)
        self.id = runs[-1] if runs else ""

    def checkpoints(self, *, warn: bool = False) -> list[Path]:
        """Prefixes of this run's complete checkpoints, newest first; `warn` of manifests that cannot be read."""
        found = []
        for path in self.folder.glob("*.json"):
            manifest = read_manifest(path)
            if manifest and manifest["run"] == self.id:
                found.append((manifest["state"]["iteration"], path.with_suffix("")))
            elif warn and not manifest and path.with_suffix(OPTIMIZER).exists():
                logger.warning("damaged checkpoint passed over: %s: damaged", path)
        return [prefix for _, prefix in sorted(found, reverse=True)]

    def save(
        self,
        name: str,
        state: TrainingState,
        model: nn.Layer,
        optimizer: object,
        ema: object | None,
        ranks: dict | None = None,
        hooks: dict[str, dict] | None = None,
    ) -> Path:
        """Write a checkpoint, then remove those that are not to be kept. Returns its prefix.

        Args:
            ranks: `statistics` of every rank as arrays, by rank ("0", ...), where they differ.
            hooks: states of hooks by name, see `ppdet.engine.hooks.base.hook_states`.

        Raises:
            OSError: it could not be written. What was there before is as it was, but for one of the same name and age.
        """
        prefix = self.folder / name
        self.set_aside(prefix, state.iteration)
        # The manifest first: what is left if the process is killed from here on is no checkpoint.
        remove(prefix)
        contents = {WEIGHTS[self.weights_format]: (model if ema is None else ema).state_dict()}
        if ema is not None:
            contents[TRAINED[self.weights_format]] = model.state_dict()
        contents[OPTIMIZER] = optimizer_state(model, optimizer)
        if ranks:
            contents[RANKS] = ranks
        if hooks:
            contents[HOOKS] = hooks
        try:
            for suffix, content in contents.items():
                save_weights(content, beside(prefix, suffix), metadata=self.metadata())
            self.write_manifest(prefix, state, {suffix: describe(beside(prefix, suffix)) for suffix in contents})
        except OSError:
            # Half a checkpoint is of no use, and its room may be needed.
            remove(prefix)
            raise
        self.prune(state.iteration)
        return prefix

    def set_aside(self, prefix: Path, iteration: int) -> None:
        """Give the checkpoint that this run started from another name, when one of its own takes the name.

        That is model_final, where a run goes on for more epochs.
        """
        manifest = read_manifest(beside(prefix, MANIFEST))
        is_start = self.resumed_from is not None and prefix.absolute() == self.resumed_from.absolute()
        if not manifest or not (manifest["run"] == self.id or is_start) or manifest["state"]["iteration"] >= iteration:
            return
        other = self.folder / f"snapshot_{manifest['state']['iteration']}"
        remove(other)
        for suffix in manifest["files"]:
            link(beside(prefix, suffix), beside(other, suffix))
        self.write_manifest(other, TrainingState(**manifest["state"]), manifest["files"])

    def write_manifest(self, prefix: Path, state: TrainingState, files: dict) -> None:
        manifest = {"format": FORMAT, "run": self.id, "paddle": paddle.__version__, "files": files}
        write_sealed(beside(prefix, MANIFEST), {**manifest, **self.described_classes(), "state": state._asdict()})

    def described_classes(self) -> dict:
        return {"classes": as_json(self.classes)} if self.classes else {}

    def metadata(self) -> dict[str, str]:
        """What a .safetensors file says of itself, wherever it is copied to."""
        return {name: json.dumps(value) for name, value in self.described_classes().items()}

    def update_state(self, name: str, state: TrainingState) -> None:
        """Give this run's checkpoint `name`, if there is one, another state; its files stay.

        Raises:
            OSError: it could not be written; it stays as it was.
        """
        manifest = read_manifest(beside(self.folder / name, MANIFEST))
        if manifest and manifest["run"] == self.id:
            self.write_manifest(self.folder / name, state, manifest["files"])

    def save_best(self, weights: dict) -> Path:
        """Write weights as those of the best epoch, and a .json with their classes. Returns their path.

        Raises:
            OSError: they could not be written; the file that was there is as it was.
        """
        path = beside(self.folder / BEST, WEIGHTS[self.weights_format])
        save_weights(weights, path, metadata=self.metadata())
        # Not a manifest: it has no state, and nothing resumes from it.
        if self.classes:
            content = {"files": {path.suffix: describe(path)}, **self.described_classes()}
            write_sealed(beside(self.folder / BEST, MANIFEST), content)
        for suffix in WEIGHTS.values():
            if suffix != path.suffix:
                beside(self.folder / BEST, suffix).unlink(missing_ok=True)
        return path

    def prune(self, iteration: int) -> None:
        """Remove checkpoints that are not to be kept, of those up to `iteration`: later ones have been passed over."""
        manifests = {prefix: read_manifest(beside(prefix, MANIFEST)) for prefix in self.checkpoints()}
        valid = [prefix for prefix, content in manifests.items() if content["state"]["iteration"] <= iteration]
        for prefix in valid[NEWEST_KEPT:]:
            name = prefix.name
            is_kept = name.isdecimal() and self.keep_every and (int(name) + 1) % self.keep_every == 0
            if not is_kept and (name.isdecimal() or name.startswith("snapshot_")):
                remove(prefix)


def run_id(folder: Path) -> str | None:
    """Id of the run in a folder; None where there is none."""
    with contextlib.suppress(OSError, CheckpointError):
        content = read_sealed(folder / RUN_FILE)
        return content["id"] if is_run(content) else None


def is_run(content: dict) -> bool:
    """Whether run.json has what `begin` writes: a seal tells damage; anybody can make another one."""
    source, texts = content.get("resumed_from"), ("resumed_from", "resumed_files", "pretrained_from", "pretrained_run")
    return (
        isinstance(content.get("id"), str)
        and "resumed_from" in content
        and all(text is None or (isinstance(text, str) and "\0" not in text) for text in map(content.get, texts))
        and (not source or Path(source).name not in ("", ".."))
    )
