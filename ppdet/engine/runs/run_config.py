"""config.yml in the folder of a run: what it is trained with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppdet.core.config import Config, merge_config
from ppdet.core.show import show
from ppdet.core.tree import parse, to_plain
from ppdet.core.workspace import load_config
from ppdet.engine import device_choice
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.runs.moved import earlier_runs
from ppdet.engine.runs.run_folder import RUN_FILE, run_id
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
CONFIG_FILE = "config.yml"
SHOWN = 20


def is_inside(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.expanduser().resolve().parents


def folder_of(cfg: Config) -> Path:
    """The folder of a configuration's run: the one that it lies in, where it is a run's config.yml, else by name."""
    place = Path(cfg.path).parent
    is_there = Path(cfg.path).name == CONFIG_FILE and (place / RUN_FILE).is_file()
    return place if is_there else Path(cfg["save_dir"]) / cfg.name


def own_weights(trainer: object) -> Path | None:
    """pretrain_weights relative to the run's own folder; None where they are elsewhere."""
    text, output = trainer.cfg["pretrain_weights"], trainer.output
    if not text or "://" in text or not is_inside(Path(text), output):
        return None
    return Path(text).expanduser().resolve().relative_to(output.resolve())


def start_weights(trainer: object) -> str | None:
    """pretrain_weights; or where they are now, when they were moved with the run that they were in.

    Raises:
        CheckpointError: another run has that name now, and the weights are in none that was moved aside.
    """
    weights, folder = weights_now(trainer), trainer.folder
    if weights is None and trainer.cfg["pretrain_weights"]:
        raise CheckpointError(
            f"pretrain_weights: {folder.pretrained_from} is another run's now than {folder.folder} started from, and "
            "that one is gone: leave -r out to start from the new one"
        )
    return weights


def weights_now(trainer: object) -> str | None:
    """`start_weights`, None where they have gone."""
    text, folder = trainer.cfg["pretrain_weights"], trainer.folder
    if own_weights(trainer):
        return folder.pretrained_from or text
    if not folder.pretrained_run or text != folder.pretrained_from:
        return text
    path = Path(text).expanduser()
    places = (place for place in (path.parent, *earlier_runs(path.parent)) if run_id(place) == folder.pretrained_run)
    place = next(places, None)
    return text if place == path.parent else place and str(place / path.name)


def note_start_weights(trainer: object) -> None:
    """Have run.json say which run pretrain_weights are of, unless this run has started from them before."""
    text, folder = trainer.cfg["pretrain_weights"], trainer.folder
    if trainer.resume == "auto" and folder.id and text == folder.pretrained_from:
        return
    is_local = bool(text) and "://" not in text
    folder.pretrained_run = run_id(Path(text).expanduser().parent) if is_local else None
    folder.pretrained_from = text if folder.pretrained_run else None


def write_config(trainer: object, folder: Path) -> None:
    """Write config.yml, with the run's name, without the device, and tell what differs from the one that is there."""
    values = {"run_name": trainer.cfg.name}
    if trainer.folder.pretrained_from:
        values["pretrain_weights"] = weights_now(trainer) or trainer.cfg["pretrain_weights"]
    cfg = without_device(merge_config(trainer.cfg, values, source="the run"))
    path = folder / CONFIG_FILE
    if path.is_file():
        try:
            changed = changes(all_values(without_device(load_config(path))), all_values(cfg))
        except ConfigError as error:
            logger.warning("%s was damaged, and is written anew: %s", path, error)
        else:
            if changed:
                logger.info("%s changes: %s", path, "; ".join(changed))
    with atomic_path(path) as temporary:
        cfg.dump(temporary)


def without_device(cfg: Config) -> Config:
    """The configuration without what chooses the device, which is the machine's: a run may be looked at on another."""
    return cfg.without(device_choice.SETTINGS)


def without_files_device(cfg: Config) -> Config:
    """As `without_device`, but with what the command line says of the device."""
    return cfg.without(key for key in device_choice.SETTINGS if cfg.layer(key) <= cfg.files)


def all_values(cfg: Config) -> dict:
    """Everything that counts, defaults included, in whatever spelling it was written."""
    return to_plain(parse(show(cfg), CONFIG_FILE))


def changes(old: dict, new: dict) -> list[str]:
    """What differs, as "key: old, now new"; at most SHOWN of them."""
    before, after = dict(leaves(old)), dict(leaves(new))
    keys = [key for key in {**before, **after} if before.get(key, "unset") != after.get(key, "unset")]
    rows = [f"{key}: {before.get(key, 'unset')}, now {after.get(key, 'unset')}" for key in keys[:SHOWN]]
    return [*rows, *([f"{len(keys) - SHOWN} more"] if len(keys) > SHOWN else [])]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Values that are no mappings and hold none, by dotted key."""
    is_list = isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
    if not (value and (isinstance(value, dict) or is_list)):
        yield key, value
        return
    for name, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(child, f"{key}.{name}" if key else str(name))
