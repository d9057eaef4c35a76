"""config.yml in the folder of a run: what it is trained with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from ppdet.core.config import Config, merge_config
from ppdet.core.errors import ConfigError
from ppdet.core.show import show
from ppdet.core.tree import parse, to_plain
from ppdet.core.workspace import load_config
from ppdet.engine.run_folder import RUN_FILE
from ppdet.utils.files import atomic_path
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


def own_weights(trainer: object) -> Optional[Path]:
    """pretrain_weights relative to the run's own folder; None where they are elsewhere."""
    text, output = trainer.cfg["pretrain_weights"], trainer.output
    if not text or "://" in text or not is_inside(Path(text), output):
        return None
    return Path(text).expanduser().resolve().relative_to(output.resolve())


def start_weights(trainer: object) -> Optional[str]:
    """pretrain_weights; or where they are now, when they were in the run's folder and were moved with their run."""
    return (own_weights(trainer) and trainer.folder.pretrained_from) or trainer.cfg["pretrain_weights"]


def write_config(trainer: object, folder: Path) -> None:
    """Write config.yml, with the run's name, and tell what differs from the one that is there."""
    values = {"run_name": trainer.cfg.name}
    if trainer.folder.pretrained_from:
        values["pretrain_weights"] = trainer.folder.pretrained_from
    cfg = merge_config(trainer.cfg, values, source="the run")
    path = folder / CONFIG_FILE
    if path.is_file():
        try:
            changed = changes(all_values(load_config(path)), all_values(cfg))
        except ConfigError as error:
            logger.warning("%s was damaged, and is written anew: %s", path, error)
        else:
            if changed:
                logger.info("%s changes: %s", path, "; ".join(changed))
    with atomic_path(path) as temporary:
        cfg.dump(temporary)


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
