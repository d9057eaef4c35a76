"""config.yml in the folder of a run: the complete configuration that the run is trained with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppdet.core.compose.walk import required_modules
from ppdet.core.config import Config, merge_config
from ppdet.core.show import show
from ppdet.core.tree import parse, to_plain
from ppdet.core.workspace import load_config
from ppdet.engine import device_choice
from ppdet.engine.runs.run_folder import RUN_FILE
from ppdet.utils.disk.files import atomic_path
from ppdet.utils.errors import ConfigError
from ppdet.utils.logger import get_logger
from ppdet.utils.masking import masked_values

logger = get_logger(__name__)
CONFIG_FILE = "config.yml"
MAX_CHANGES = 20  # largest number of changes that a message lists


def output_of(cfg: Config) -> Path:
    """Return the folder that a run of this configuration writes to: save_dir/name, with links resolved."""
    path = Path(cfg["save_dir"]) / cfg.name
    return path.resolve() if path.is_symlink() else path


def folder_of(cfg: Config) -> Path:
    """Return the folder of the run that a configuration belongs to: where its config.yml lies, else save_dir/name."""
    place = Path(cfg.path).parent
    is_run = Path(cfg.path).name == CONFIG_FILE and (place / RUN_FILE).is_file()
    return place if is_run else Path(cfg["save_dir"]) / cfg.name


def write_config(cfg: Config, folder: Path, *, start_weights: str | None) -> None:
    """Write config.yml, and log what differs from the one that is there.

    It has the name of the run, so that it does not depend on the file's name, and not the device, which is the
    machine's: a run may be resumed or evaluated on another machine.

    Args:
        folder: where to write, which may have a temporary name until the run begins.
        start_weights: path of pretrain_weights, None if they are not set.
    """
    required = required_modules(cfg)
    values: dict[str, Any] = {
        "run_name": cfg.name,
        **({"pretrain_weights": start_weights} if start_weights else {}),
        **({"requires": required} if required else {}),
    }
    cfg = without_device(merge_config(cfg, values, source="the run"))
    path, shown = folder / CONFIG_FILE, output_of(cfg) / CONFIG_FILE
    if path.is_file():
        try:
            changed = changes(all_values(without_device(load_config(path))), masked_values(all_values(cfg)))
        except ConfigError as error:
            logger.warning("%s was damaged, and is written again: %s", shown, error)
        else:
            if changed:
                logger.info("%s changes: %s", shown, "; ".join(changed))
    with atomic_path(path) as temporary:
        cfg.dump(temporary, hides_secrets=True)


def without_device(cfg: Config) -> Config:
    """Return the configuration without the settings that choose the device."""
    return cfg.without(device_choice.SETTINGS)


def without_files_device(cfg: Config) -> Config:
    """As `without_device`, but keeps what the command line says about the device."""
    return cfg.without(key for key in device_choice.SETTINGS if cfg.layer(key) <= cfg.files)


def all_values(cfg: Config) -> dict[str, Any]:
    """Return all values that count, defaults included, however the YAML spells them."""
    return to_plain(parse(show(cfg), CONFIG_FILE))


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what differs between two configurations as lines "key: old, now new", at most `MAX_CHANGES`."""
    before, after = dict(leaves(old)), dict(leaves(new))
    keys = [key for key in {**before, **after} if before.get(key, "unset") != after.get(key, "unset")]
    lines = [f"{key}: {before.get(key, 'unset')}, now {after.get(key, 'unset')}" for key in keys[:MAX_CHANGES]]
    return [*lines, *([f"{len(keys) - MAX_CHANGES} more"] if len(keys) > MAX_CHANGES else [])]


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in nested mappings and lists by dotted key; lists of plain values are one value."""
    is_list = isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)
    if not (value and (isinstance(value, dict) or is_list)):
        yield key, value
        return
    for name, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(child, f"{key}.{name}" if key else str(name))
