"""What becomes of the run that is in a run's folder already."""

import stat
from pathlib import Path

from ppdet.core.config import Config
from ppdet.core.settings import SLOTS
from ppdet.data.sources.dataset import join_path
from ppdet.engine.checkpoints.manifest import MANIFEST, OPTIMIZER, TRAINED, WEIGHTS, beside, read_manifest, strip_suffix
from ppdet.engine.hooks.history import HISTORY
from ppdet.engine.runs.run_config import is_inside, own_weights
from ppdet.engine.runs.run_folder import BEST, RUN_FILE
from ppdet.utils.errors import UserError

# What the run does with what is in its folder.
IN_PLACE, GO_BACK, ANEW = "in place", "go back", "anew"


class RunError(UserError, RuntimeError):
    """A run that cannot begin in its folder; the message says why and what to do."""


def decide(trainer: object) -> str:
    """What becomes of what is in the run's folder.

    IN_PLACE: the run there goes on, or there is none. GO_BACK: it goes on from a checkpoint that is not its last one;
    what came after that is kept elsewhere. ANEW: it is kept elsewhere, whole.
    """
    source, output = trainer.resumed_from, trainer.output
    if source is not None and is_inside(source, output):
        is_last = trainer.resume == "auto" or not later_than(source, output)
        return IN_PLACE if is_last else GO_BACK
    # A run that was killed before its first checkpoint, or while that was written, starts once more: nothing is lost.
    starts_again = trainer.resume == "auto" and trainer.folder.id and not has_checkpoint(output)
    return IN_PLACE if starts_again or not has_run(output) else ANEW


def has_run(folder: Path) -> bool:
    """Whether a folder has what cost time to make: weights, or the history of at least one step."""
    history = folder / HISTORY
    return bool(weights_in(folder)) or (history.is_file() and history.stat().st_size > 0)


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder has weights of which all was written, whatever happened to them then; or the best ones."""
    return any(path.name == BEST or beside(path, MANIFEST).exists() for path in weights_in(folder))


def weights_in(folder: Path) -> set[Path]:
    """Prefixes of the weights, or states of the optimizer, in a folder."""
    suffixes = (*TRAINED.values(), *WEIGHTS.values(), OPTIMIZER)
    paths = folder.iterdir() if folder.is_dir() else ()
    return {strip_suffix(str(path)) for path in paths if path.name.endswith(suffixes)}


def later_than(prefix: Path, folder: Path) -> bool:
    """Whether the folder has a checkpoint of more steps than this one."""
    steps = [manifest["state"]["iteration"] for manifest in manifests(folder).values()]
    own = read_manifest(beside(prefix, MANIFEST))
    return own is None or max(steps, default=0) > own["state"]["iteration"]


def manifests(folder: Path) -> dict[Path, dict]:
    """Manifests of all checkpoints of a folder by their prefix, of whatever run."""
    found = {path.with_suffix(""): read_manifest(path) for path in folder.glob(f"*{MANIFEST}")}
    return {prefix: manifest for prefix, manifest in found.items() if manifest}


def clears(trainer: object) -> bool:
    """Whether the earlier run is removed, where it does not go on; what no run of ours has made is moved instead."""
    return trainer.overwrite and (trainer.output / RUN_FILE).is_file()


def cleared_bytes(trainer: object) -> int:
    """Room that there will be before the first checkpoint is written: that of an earlier run that is removed."""
    if decide(trainer) == IN_PLACE or not clears(trainer) or trainer.output.is_symlink():
        return 0
    status = [path.lstat() for path in trainer.output.rglob("*")]
    return sum(found.st_size for found in status if stat.S_ISREG(found.st_mode) and found.st_nlink == 1)


def require_may_go(trainer: object) -> None:
    """Raise RunError when the folder that is about to be moved or removed has what the run needs."""
    pretrained = own_weights(trainer)
    if pretrained and clears(trainer):
        raise RunError(f"pretrain_weights: {pretrained} is in the folder that --overwrite clears: leave that out")
    require_no_data_in(trainer.output, trainer.cfg)


def require_no_data_in(output: Path, cfg: Config) -> None:
    """Raise RunError when a data set is in the folder that is about to be moved or removed."""
    for slot in SLOTS:
        parameters = cfg.component(slot) if cfg[slot] else {}
        places = [parameters.get(name) for name in ("dataset_dir", "image_dir")]
        if any(places) and is_inside(Path(join_path(*places), "an image"), output):
            raise RunError(
                f"{output} has an earlier run and the images of {slot}: give this run another name with --name"
            )
