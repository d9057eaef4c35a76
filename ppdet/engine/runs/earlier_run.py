"""Handling of an earlier run in the folder that a run is about to use.

The earlier run is continued, or moved aside to NAME.1, NAME.2, …, or removed with --overwrite. Weights and history,
which took time to compute, are never lost without --overwrite.
"""

import enum
import stat
from pathlib import Path

from ppdet.core.config import Config
from ppdet.core.settings import SLOTS
from ppdet.data.sources.dataset import join_path
from ppdet.engine.checkpoints.manifest import (
    MANIFEST,
    OPTIMIZER,
    TRAINED,
    WEIGHTS,
    Manifest,
    beside,
    read_manifest,
    strip_suffix,
)
from ppdet.engine.hooks.history import HISTORY
from ppdet.engine.runs.run_folder import BEST, RUN_FILE
from ppdet.engine.runs.start_point import StartPoint, is_inside
from ppdet.utils.errors import UserError


class RunError(UserError, RuntimeError):
    """A run cannot begin in its folder; the message says why, and what to do."""


class Decision(enum.Enum):
    """What happens to an earlier run in the run's folder.

    IN_PLACE: the folder is kept: its run is resumed, or it holds no run. GO_BACK: the run is resumed from a checkpoint
    before its last one: the folder is renamed, and what came before that checkpoint is also in the new folder. ANEW:
    a new run starts: the folder is renamed, or removed with --overwrite.
    """

    IN_PLACE = enum.auto()
    GO_BACK = enum.auto()
    ANEW = enum.auto()


def decide(start: StartPoint) -> Decision:
    """Decide what happens to the content of the run's folder, without changing it."""
    source, output = start.resumed_from, start.output
    if source is not None and is_inside(source, output):
        is_last = start.resume == "auto" or not has_later(output, source)
        return Decision.IN_PLACE if is_last else Decision.GO_BACK
    # A run that was killed before its first checkpoint was complete begins again; nothing is lost.
    begins_again = start.resume == "auto" and start.folder.id and not has_checkpoint(output)
    return Decision.IN_PLACE if begins_again or not has_run(output) else Decision.ANEW


def has_run(folder: Path) -> bool:
    """Tell whether a folder has weights, or the history of at least one step."""
    history = folder / HISTORY
    return bool(weights_in(folder)) or (history.is_file() and history.stat().st_size > 0)


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a folder has weights that were written completely, even if they were damaged later."""
    return any(path.name == BEST or beside(path, MANIFEST).exists() for path in weights_in(folder))


def weights_in(folder: Path) -> set[Path]:
    """Return the prefixes of the weights and optimizer states in a folder."""
    suffixes = (*TRAINED.values(), *WEIGHTS.values(), OPTIMIZER)
    paths = folder.iterdir() if folder.is_dir() else ()
    return {strip_suffix(str(path)) for path in paths if path.name.endswith(suffixes)}


def has_later(folder: Path, prefix: Path) -> bool:
    """Tell whether a folder has a checkpoint of more steps than `prefix`, of any run."""
    steps = [manifest.state.iteration for manifest in manifests_in(folder).values()]
    own = read_manifest(beside(prefix, MANIFEST))
    return own is None or max(steps, default=0) > own.state.iteration


def manifests_in(folder: Path) -> dict[Path, Manifest]:
    """Return the manifests of all checkpoints in a folder, of any run, by prefix."""
    found = {path.with_suffix(""): read_manifest(path) for path in folder.glob(f"*{MANIFEST}")}
    return {prefix: manifest for prefix, manifest in found.items() if manifest}


def next_name(output: Path) -> Path:
    """Return the path for moving a run aside: NAME.1, NAME.2, …: the number after the highest that exists."""
    siblings = output.parent.iterdir() if output.parent.is_dir() else ()
    endings = [path.name[len(output.name) + 1 :] for path in siblings if path.name.startswith(f"{output.name}.")]
    taken = [int(ending) for ending in endings if ending.isascii() and ending.isdigit()]
    return output.with_name(f"{output.name}.{max(taken, default=0) + 1}")


def will_delete(start: StartPoint) -> bool:
    """Tell whether --overwrite deletes the folder: only if it has run.json; otherwise the folder is renamed."""
    return start.overwrite and (start.output / RUN_FILE).is_file()


def deleted_bytes(start: StartPoint) -> int:
    """Return how many bytes --overwrite frees before the first checkpoint is written."""
    if decide(start) is Decision.IN_PLACE or not will_delete(start):
        return 0
    status = [path.lstat() for path in start.output.rglob("*")]
    # A file with another hard link stays on the disk.
    return sum(file.st_size for file in status if stat.S_ISREG(file.st_mode) and file.st_nlink == 1)


def require_may_go(start: StartPoint) -> None:
    """Raise RunError where the folder that is about to be moved or removed contains something that the run needs."""
    pretrained = start.own_weights()
    if pretrained and will_delete(start):
        raise RunError(
            f"pretrain_weights: {pretrained} is in the folder that --overwrite clears: leave --overwrite out"
        )
    require_no_data_in(start.output, start.cfg)


def require_no_data_in(output: Path, cfg: Config) -> None:
    """Raise RunError where the images of a data set are in the folder that is about to be moved or removed."""
    for slot in SLOTS:
        parameters = cfg.component(slot) if cfg[slot] else {}
        folders = [parameters.get(name) for name in ("dataset_dir", "image_dir")]
        if any(folders) and is_inside(Path(join_path(*folders), "an image"), output):
            raise RunError(
                f"{output} has an earlier run and the images of {slot}: give this run another name with --name"
            )
