"""The folder of one training run: run.json, which identifies the run, and its checkpoints.

What a checkpoint consists of, and why a killed process loses none, is described in `ppdet.engine.checkpoints`.
"""

import json
import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor, nn
from paddle.optimizer import Optimizer

from ppdet.data.classes import Classes
from ppdet.engine.checkpoints.class_names import as_json
from ppdet.engine.checkpoints.manifest import (
    HOOKS,
    MANIFEST,
    OPTIMIZER,
    RANKS,
    TRAINED,
    WEIGHTS,
    Manifest,
    TrainingState,
    beside,
    content_hash,
    fingerprint,
    link_or_copy,
    read_manifest,
    read_sealed,
    read_verified,
    remove_checkpoint,
    resolve_checkpoint,
    write_manifest,
    write_sealed,
)
from ppdet.engine.checkpoints.state import optimizer_state
from ppdet.engine.checkpoints.weights import CheckpointError, save_weights
from ppdet.optimizer import ModelEMA
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

BEST, LAST = "best_model", "model_final"
RUN_FILE = "run.json"
NEWEST_KEPT = 2  # the last checkpoint, and the one before it in case the last is damaged


class RunFolder:
    """Writes, finds and removes the checkpoints of one run.

    Every run has a random id, which is in run.json and in the manifests of its checkpoints. Checkpoints that another
    run left in the same folder have another id, and are ignored.

    Args:
        path: the folder; it need not exist yet.
        keep_every: keep the checkpoints of every n-th epoch, for example 5: 4, 9, 14, … Of all others only the newest
            two are kept. 0 keeps the newest two alone.
        weights_format: "pdparams" or "safetensors".

    Attributes:
        id: id of the run; empty before `begin` or `newest`.
        classes: written beside all weights, None before the data set is read.
        resumed_from: prefix of the checkpoint that the run started from, None if it started from the beginning.
        resumed_hash: `content_hash` of that checkpoint, since another one may get its name later.
        pretrained_from: new path of pretrain_weights, if they belong to the earlier run that was renamed.
    """

    def __init__(self, path: Path, *, keep_every: int, weights_format: str = "pdparams") -> None:
        self.path = path
        self.keep_every = keep_every
        self.weights_format = weights_format
        self.classes: Classes | None = None
        self.id = ""
        self.resumed_from: Path | None = None
        self.resumed_hash: str | None = None
        self.pretrained_from: str | None = None
        self._seen: dict[str, tuple[int, int]] | None = None

    def begin(self, resumed_from: Path | None, *, go_on: bool, folder: Path | None = None) -> None:
        """Write run.json and remove unfinished files of a killed process.

        Args:
            resumed_from: prefix of the checkpoint that the run starts from, if any.
            go_on: continue the run that `newest` found, under its id; if false, or if there is no such run,
                start a new one.
            folder: where to write run.json, if this folder will get the run's path only later.
        """
        if not (go_on and self.id):
            self.id, self.resumed_from = uuid.uuid4().hex, resumed_from
            self.resumed_hash = self.resumed_hash or content_hash(resumed_from)
        self._clean()
        source = None
        if self.resumed_from:
            absolute = self.resumed_from.absolute()
            # A name alone stays valid when the folder is moved.
            source = absolute.name if absolute.parent == self.path.absolute() else str(absolute)
        started_in = Path.cwd()
        content = {
            "id": self.id,
            "resumed_from": source,
            "resumed_files": self.resumed_hash,
            "pretrained_from": self.pretrained_from,
            "started_in": [os.path.relpath(started_in, self.path.resolve()), str(started_in)],
        }
        write_sealed((folder or self.path) / RUN_FILE, content)

    def _clean(self) -> None:
        """Remove files that a process left which was killed while it wrote or removed them."""
        for path in self.path.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        for path in self.path.glob(f"snapshot_*{OPTIMIZER}"):
            prefix = path.with_name(path.name[: -len(OPTIMIZER)])
            if not beside(prefix, MANIFEST).exists():
                remove_checkpoint(prefix)

    def newest(self) -> Path | None:
        """Find what `--resume auto` resumes: the newest intact checkpoint, or else what the run itself resumed.

        Damaged checkpoints are skipped with a warning.

        Returns:
            A prefix; None if there is no run, or its first process was killed before the first checkpoint.

        Raises:
            CheckpointError: the run resumed a checkpoint that no longer exists, and has none of its own.
        """
        self._seen = self._timestamps()
        self.read_run()
        for prefix in self.checkpoints(warn=True):
            try:
                read_verified(prefix)
            except CheckpointError as error:
                logger.warning("skipping damaged checkpoint: %s", error)
            else:
                return prefix
        source = self.resumed_from
        if source is None:
            return None
        current = content_hash(source)
        if current is None or self.resumed_hash not in (None, current):
            raise CheckpointError(
                f"{self.path / RUN_FILE}: this run was resumed from {source}, which is gone or was replaced, and "
                "it has no checkpoint of its own: name another checkpoint with --resume, or leave --resume out"
            )
        return source

    def find_named_checkpoint(self, name: str) -> Path:
        """Find the checkpoint that the user named, see `resolve_checkpoint`; a new run will start from it."""
        self._seen = self._timestamps()
        prefix = resolve_checkpoint(name, self.path)
        self.resumed_hash = content_hash(prefix)
        return prefix

    def has_changed(self) -> bool:
        """Tell whether another run began or wrote checkpoints here since `newest` or `find_named_checkpoint` decided
        the start."""
        return self._seen is not None and self._timestamps() != self._seen

    def _timestamps(self) -> dict[str, tuple[int, int]]:
        """Return inode and time of run.json and of all manifests: every change of the folder replaces one of them."""
        manifests = (path.with_suffix(MANIFEST) for path in self.path.glob(f"*{OPTIMIZER}"))
        status = {path.name: path.stat() for path in (self.path / RUN_FILE, *manifests) if path.is_file()}
        return {name: (found.st_ino, found.st_mtime_ns) for name, found in status.items()}

    def read_run(self) -> None:
        """Read run.json. If it is missing or damaged, the id comes from the newest checkpoint."""
        path = self.path / RUN_FILE
        try:
            content = read_sealed(path)
            if not is_run(content):
                raise CheckpointError(f"{path}: not written by a training run")
        except FileNotFoundError:
            problem = "missing"
        except CheckpointError:
            problem = "damaged"
        else:
            source = content["resumed_from"]
            self.id, self.resumed_from = content["id"], self.path / source if source else None
            self.resumed_hash, self.pretrained_from = content.get("resumed_files"), content.get("pretrained_from")
            return
        paths = (path for path in self.path.glob(f"*{MANIFEST}") if path.is_file())
        oldest_first = sorted(paths, key=lambda manifest: manifest.stat().st_mtime)
        runs = [manifest.run for manifest in map(read_manifest, oldest_first) if manifest]
        if runs or problem == "damaged":
            logger.warning("%s is %s: using the run id of the newest checkpoint", path, problem)
        self.id = runs[-1] if runs else ""

    def checkpoints(self, *, warn: bool = False) -> dict[Path, Manifest]:
        """Return the manifests of this run's complete checkpoints by prefix, newest first.

        `warn` logs manifests that are damaged.
        """
        found = {}
        for path in self.path.glob(f"*{MANIFEST}"):
            manifest = read_manifest(path)
            if manifest and manifest.run == self.id:
                found[path.with_suffix("")] = manifest
            elif warn and not manifest and path.with_suffix(OPTIMIZER).exists():
                logger.warning("skipping damaged checkpoint: %s: damaged", path)
        return dict(sorted(found.items(), key=lambda item: (item[1].state.iteration, item[0]), reverse=True))

    def save(
        self,
        name: str,
        state: TrainingState,
        model: nn.Layer,
        optimizer: Optimizer,
        ema: ModelEMA | None,
        ranks: dict[str, dict[str, np.ndarray]] | None = None,
        hooks: dict[str, dict[str, Any]] | None = None,
    ) -> Path:
        """Write a checkpoint, then remove those that need not be kept.

        Args:
            name: such as "3" for epoch 3.
            ranks: `statistics` of every rank by its number ("0", …), if they differ between ranks.
            hooks: states of hooks by name, see `ppdet.engine.hooks.base.hook_states`.

        Returns:
            The checkpoint's prefix.

        Raises:
            OSError: it could not be written. Nothing is left of it; all other checkpoints are unchanged.
        """
        prefix = self.path / name
        self._rename_previous(prefix, state.iteration)
        remove_checkpoint(prefix)
        contents: dict[str, dict[str, Any]] = {WEIGHTS[self.weights_format]: (ema or model).state_dict()}
        if ema is not None:
            contents[TRAINED[self.weights_format]] = model.state_dict()
        contents[OPTIMIZER] = optimizer_state(model, optimizer)
        if ranks:
            contents[RANKS] = ranks
        if hooks:
            contents[HOOKS] = hooks
        try:
            for suffix, content in contents.items():
                save_weights(content, beside(prefix, suffix), metadata=self._metadata())
            files = {suffix: fingerprint(beside(prefix, suffix)) for suffix in contents}
            write_manifest(prefix, Manifest(self.id, state, files), **self._described_classes())
        except OSError:
            remove_checkpoint(prefix)  # an incomplete checkpoint would only fill the disk
            raise
        self._prune(state.iteration)
        return prefix

    def _rename_previous(self, prefix: Path, iteration: int) -> None:
        """Keep an earlier model_final as snapshot_<step> before a run of more epochs writes its own model_final."""
        manifest = read_manifest(beside(prefix, MANIFEST))
        is_start = self.resumed_from is not None and prefix.absolute() == self.resumed_from.absolute()
        if not manifest or not (manifest.run == self.id or is_start) or manifest.state.iteration >= iteration:
            return
        snapshot = self.path / f"snapshot_{manifest.state.iteration}"
        remove_checkpoint(snapshot)
        for suffix in manifest.files:
            link_or_copy(beside(prefix, suffix), beside(snapshot, suffix))
        write_manifest(snapshot, manifest._replace(run=self.id), **self._described_classes())

    def _described_classes(self) -> dict[str, Any]:
        return {"classes": as_json(self.classes)} if self.classes else {}

    def _metadata(self) -> dict[str, str]:
        """Return the header of .safetensors files: unlike a manifest, it goes wherever the file is copied to."""
        return {name: json.dumps(value) for name, value in self._described_classes().items()}

    def update_state(self, name: str, state: TrainingState) -> None:
        """Replace the training state of this run's checkpoint `name`, if it exists; its other files stay.

        Raises:
            OSError: the manifest could not be written; it is unchanged.
        """
        manifest = read_manifest(beside(self.path / name, MANIFEST))
        if manifest and manifest.run == self.id:
            write_manifest(self.path / name, manifest._replace(state=state), **self._described_classes())

    def save_best(self, weights: dict[str, Tensor], evaluated: int = 0) -> Path:
        """Write the weights of the best epoch, with a .json without training state, and return the path of the weights.

        Args:
            evaluated: the number of images on which they were the best; 0: unknown.

        Raises:
            OSError: they could not be written; the earlier best weights are unchanged.
        """
        path = beside(self.path / BEST, WEIGHTS[self.weights_format])
        save_weights(weights, path, metadata=self._metadata())
        if self.classes:
            content = {"files": {path.suffix: fingerprint(path)}, "evaluated": evaluated, **self._described_classes()}
            write_sealed(beside(self.path / BEST, MANIFEST), content)
        for suffix in WEIGHTS.values():
            if suffix != path.suffix:
                beside(self.path / BEST, suffix).unlink(missing_ok=True)
        return path

    def _prune(self, iteration: int) -> None:
        """Remove checkpoints that need not be kept. Those after `iteration` are abandoned and not counted."""
        valid = [prefix for prefix, manifest in self.checkpoints().items() if manifest.state.iteration <= iteration]
        for prefix in valid[NEWEST_KEPT:]:
            name = prefix.name
            is_kept = name.isdecimal() and self.keep_every and (int(name) + 1) % self.keep_every == 0
            if not is_kept and (name.isdecimal() or name.startswith("snapshot_")):
                remove_checkpoint(prefix)


def is_run(content: dict[str, Any]) -> bool:
    """Whether the values of run.json have the types that `RunFolder.begin` writes.

    The checksum only shows damage: any program can write other content with a checksum that matches.
    """
    source = content.get("resumed_from")
    texts = [source, content.get("resumed_files"), content.get("pretrained_from")]
    return (
        isinstance(content.get("id"), str)
        and "resumed_from" in content
        and all(text is None or (isinstance(text, str) and "\0" not in text) for text in texts)
        and (not source or Path(source).name not in ("", ".."))
    )
