"""The configuration of a trained model: that of its run's folder, or a YAML file that is compared with it."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ppdet.core.compose.validate import names_folder
from ppdet.core.config import Config
from ppdet.core.settings import SLOTS
from ppdet.core.workspace import load_config
from ppdet.data.sources.dataset import join_path
from ppdet.engine.checkpoints.manifest import WEIGHTS, beside, read_sealed, strip_suffix
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.hooks.checkpointing import LAST
from ppdet.engine.runs.detecting import differences
from ppdet.engine.runs.run_config import CONFIG_FILE, without_files_device
from ppdet.engine.runs.run_folder import BEST, RUN_FILE, RunFolder
from ppdet.engine.runs.run_start import RunError
from ppdet.utils.errors import ConfigError, nearest
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
LARGEST = 1 << 20  # bytes of a config.yml


def trained_config(arguments: argparse.Namespace, reader: str, *, with_weights: bool = True) -> Config:
    """The configuration that a tool's RUN, or -c, names, with -o on top.

    RUN is the folder of a run: its config.yml counts, and the best weights if there are some, else the last ones. Or it
    is a checkpoint in such a folder, such as output/NAME/3.

    Args:
        reader: the one that the tool takes, EvalReader or TestReader. In it, -c, or the run where -o names weights of
            another one, is compared with the run of the weights.
        with_weights: false where the tool loads none.

    Raises:
        RunError: that is no run, or it has no weights. ConfigError: config.yml is damaged.
    """
    if arguments.run is None:
        cfg = load_config(arguments.config, arguments.opt)
        if cfg["weights"] and with_weights:
            warn_of_differences(cfg, cfg["weights"], reader)
        return cfg
    folder, weights = find_run(arguments.run)
    if with_weights and weights is None and not any(text.split("=")[0].strip() == "weights" for text in arguments.opt):
        weights = best_weights(folder)
    if weights:
        logger.info("run %s: weights %s", folder, weights.name)
    cfg = run_config(folder, [*([f"weights={json.dumps(str(weights))}"] if weights else []), *arguments.opt])
    if with_weights and cfg["weights"] and Path(cfg["weights"]).expanduser().resolve().parent != folder.resolve():
        warn_of_differences(cfg, cfg["weights"], reader, instead_of=str(folder))
    return cfg


def folder_config(folder: Path, config: str | None, overrides: Sequence[str]) -> Config:
    """The configuration to evaluate the checkpoints of a folder with: -c, or that of its run.

    Raises:
        RunError: neither is there. ConfigError: it is damaged.
    """
    if config is None:
        return run_config(require_run(folder), overrides)
    cfg = load_config(config, overrides)
    warn_of_differences(cfg, str(folder / LAST), "EvalReader")
    return cfg


def find_run(place: str) -> tuple[Path, Path | None]:
    """Folder of a run, and the weights where `place` is a checkpoint in it."""
    path = Path(place).expanduser()
    if path.is_dir():
        return require_run(path), None
    if path.suffix in (".yml", ".yaml"):
        raise RunError(f"{place}: a run's folder is expected here; a YAML file is named by -c")
    weights = weights_of(strip_suffix(str(path)))
    if weights is not None:
        return require_run(path.parent), weights
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise RunError(
        f"{place}: no such run: expected its folder, such as output/NAME, or a checkpoint in it, such as output/NAME/3"
        f"{nearest(path.name, siblings)}"
    )


def require_run(folder: Path) -> Path:
    if (folder / CONFIG_FILE).is_file():
        return folder
    runs = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}"))
    hint = f"it holds the runs {', '.join(runs[:5])}{', …' if len(runs) > 5 else ''}: name one" if runs else ""
    raise RunError(f"{folder} has no {CONFIG_FILE}, as runs have: {hint or 'name a YAML file with -c'}")


def weights_of(prefix: Path) -> Path | None:
    """The file of the weights with this prefix, if there is one."""
    files = (beside(prefix, suffix) for suffix in WEIGHTS.values())
    return next((path for path in files if path.is_file()), None)


def best_weights(folder: Path) -> Path:
    """best_model if there is one, else model_final, else the newest whole checkpoint."""
    found = weights_of(folder / BEST) or weights_of(folder / LAST)
    if found is None:
        newest = RunFolder(folder, keep_every=1).newest()
        found = newest and newest.parent == folder and weights_of(newest)
    if not found:
        raise RunError(f"{folder} has no weights yet: neither {BEST}, nor {LAST}, nor a whole checkpoint")
    return found


def run_config(folder: Path, overrides: Sequence[str]) -> Config:
    """The configuration of a run; its name is that of the folder, and what it reads is where the run found it.

    What config.yml says of the device does not count, in case it says something: this may be another machine.
    """
    name = folder.resolve().name
    own = [f"run_name={json.dumps(name)}"] if names_folder(name) else []
    cfg = load_config(folder / CONFIG_FILE, [*own, *relocated(read_config(folder), folder), *overrides])
    return without_files_device(cfg)


def read_config(folder: Path) -> Config:
    """config.yml as it stands there."""
    path = folder / CONFIG_FILE
    if path.stat().st_size > LARGEST:
        raise ConfigError(f"{path}: no configuration of a run: it has more than {LARGEST} bytes")
    return load_config(path)


def relocated(cfg: Config, folder: Path) -> list[str]:
    """Overrides for relative paths of data that are not relative to this working directory, but to the run's own.

    That is known from the folder, so that a project may be moved, and absolutely, so that the folder may.
    """
    bases = [base for base in started_in(folder) if os.path.realpath(base) != os.path.realpath(".")]
    found = {}
    for slot in SLOTS if bases else ():
        parameters = cfg.component(slot) if cfg[slot] else {}
        root = parameters.get("dataset_dir")
        for key in ("dataset_dir",) if root else ("image_dir", "anno_path"):
            found[f"{slot}.{key}"] = place(parameters.get(key), bases)
        names = parameters.get("anno_path")
        # Where it is not in dataset_dir, TestDataset's is relative to the working directory.
        root = found.get(f"{slot}.dataset_dir") or root
        if root and names and not os.path.exists(join_path(root, names)):
            found[f"{slot}.anno_path"] = place(names, bases)
    return [f"{key}={json.dumps(path)}" for key, path in found.items() if path]


def place(path: str | None, bases: Sequence[str]) -> str | None:
    """Where a relative path leads from the first of `bases` from which it leads anywhere."""
    if not path or os.path.isabs(os.path.expanduser(path)):
        return None
    candidates = (os.path.abspath(os.path.join(base, path)) for base in bases)
    return next((candidate for candidate in candidates if os.path.exists(candidate)), None)


def started_in(folder: Path) -> list[str]:
    """Working directory of the command that trained there: as it lies to the folder, and absolute."""
    try:
        relative, absolute = read_sealed(folder / RUN_FILE)["started_in"]
        places = [str(folder.resolve() / relative), str(Path(absolute))]
        return [path for path in places if path.isprintable()]
    except (OSError, CheckpointError, ValueError, TypeError, KeyError):
        return []


def warn_of_differences(cfg: Config, weights: str, reader: str, instead_of: str = "-c") -> None:
    """Warn when weights in a run's folder were trained with other settings, of those that change what they detect.

    `instead_of`: what the command line had better have the run's folder in place of.
    """
    folder = Path(weights).expanduser().parent
    if "://" in weights or not (folder / CONFIG_FILE).is_file():
        return
    try:
        found = differences(cfg, read_config(folder), reader)
    except ConfigError as error:
        logger.warning("%s is not compared with %s: %s", cfg.path, folder / CONFIG_FILE, error)
        return
    if found:
        named = "; ".join(f"{key}: {ours} here, {value} there" for key, ours, value in found)
        logger.warning(
            "%s is not what these weights were trained with, and they will detect otherwise: %s; %s in place of %s and "
            "weights takes the run's own settings",
            *(cfg.path, named, folder, instead_of),
        )
