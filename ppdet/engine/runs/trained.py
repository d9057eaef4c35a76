"""The configuration of a trained model: from the folder of its run, or from a YAML file, which is compared with it."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppdet.core.compose.validate import names_folder
from ppdet.core.config import Config
from ppdet.core.settings import SLOTS
from ppdet.core.workspace import load_config, merge_config
from ppdet.data.data_checks import FEW_TO_EVALUATE
from ppdet.data.sources.dataset import join_path
from ppdet.engine.checkpoints.manifest import MANIFEST, read_sealed, strip_suffix, weights_file
from ppdet.engine.checkpoints.weights import CheckpointError
from ppdet.engine.runs.earlier_run import RunError
from ppdet.engine.runs.run_config import CONFIG_FILE, without_files_device
from ppdet.engine.runs.run_folder import BEST, LAST, RUN_FILE, RunFolder
from ppdet.engine.runs.setting_differences import differences
from ppdet.utils.disk.files import is_count
from ppdet.utils.errors import ConfigError, nearest
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

logger = get_logger(__name__)
MAX_BYTES = 1 << 20  # largest config.yml that is read


def trained_config(arguments: argparse.Namespace, reader: str, *, with_weights: bool = True) -> Config:
    """Return the configuration that a command's arguments name.

    Args:
        arguments: `run`, the folder of a run or a checkpoint in it, such as output/NAME or output/NAME/3, or None;
            `config`, a YAML file, used where `run` is None; `opt`, overrides "key=value". The folder of a run means its
            best weights, or the last ones if it has no best.
        reader: EvalReader or TestReader, whichever the command uses. A warning tells where its transforms, or the
            network, differ from those that the weights were trained with.
        with_weights: False where the command loads no weights.

    Raises:
        RunError: there is no run, or it has no weights.
        ConfigError: the configuration is invalid.
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
        warn_of_chance(folder, weights)
    cfg = config_of_run(folder, [*([f"weights={json.dumps(str(weights))}"] if weights else []), *arguments.opt])
    if (
        with_weights
        and cfg["weights"]
        and Path(os.path.expanduser(cfg["weights"])).resolve().parent != folder.resolve()
    ):
        warn_of_differences(cfg, cfg["weights"], reader, instead_of=str(folder))
    return cfg


def training_config(arguments: argparse.Namespace, overrides: Sequence[str]) -> Config:
    """Return the configuration to train with: that of the YAML file `config`, or that of the run `run`, in its folder.

    Raises:
        RunError: there is no run, or `run` is a checkpoint.
        ConfigError: the configuration is invalid.
    """
    if arguments.run is None:
        return load_config(arguments.config, overrides)
    folder, weights = find_run(arguments.run)
    if weights is not None:
        raise RunError(f"{arguments.run}: expected the folder of a run: ppdet train {folder} -r {arguments.run}")
    place = folder.resolve()
    if not names_folder(place.name):
        raise RunError(f"{folder}: no run can have this name: rename the folder")
    parent = folder.parent if folder.name == place.name else place.parent
    return config_of_run(folder, [f"save_dir={json.dumps(str(parent))}", *overrides])


def folder_config(folder: Path, config: str | None, overrides: Sequence[str]) -> Config:
    """Return the configuration for evaluating the checkpoints of a folder: the file `config`, or the run's own.

    Raises:
        RunError: there is neither.
        ConfigError: the configuration is invalid.
    """
    if config is None:
        return config_of_run(require_run(folder), overrides)
    cfg = load_config(config, overrides)
    warn_of_differences(cfg, str(folder / LAST), "EvalReader")
    return cfg


def find_run(place: str) -> tuple[Path, Path | None]:
    """Return the folder of a run, and the weights where `place` is a checkpoint in that folder.

    Raises:
        RunError: it is neither.
    """
    path = Path(os.path.expanduser(place))
    if path.is_dir():
        return require_run(path), None
    if path.suffix in (".yml", ".yaml"):
        raise RunError(f"{place}: expected the folder of a run; name a YAML file with -c")
    weights = weights_file(strip_suffix(str(path)))
    if weights is not None:
        return require_run(path.parent), weights
    siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise RunError(
        f"{place}: no such run: expected its folder, such as output/NAME, or a checkpoint in it, such as output/NAME/3"
        f"{nearest(path.name, siblings)}"
    )


def require_run(folder: Path) -> Path:
    """Return the folder, or raise RunError if it has no config.yml."""
    if (folder / CONFIG_FILE).is_file():
        return folder
    runs = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}"))
    hint = f"name one of the runs in it: {', '.join(runs[:5])}{', …' if len(runs) > 5 else ''}" if runs else ""
    raise RunError(
        f"{folder} is not the folder of a run: it has no {CONFIG_FILE}: {hint or 'name a YAML file with -c'}"
    )


def best_weights(folder: Path) -> Path:
    """Return the file of best_model, else of model_final, else of the newest intact checkpoint.

    Raises:
        RunError: the run has no weights yet.
    """
    weights = weights_file(folder / BEST) or weights_file(folder / LAST)
    if weights is None:
        newest = RunFolder(folder, keep_every=1).newest()
        if newest is not None and newest.parent == folder:
            weights = weights_file(newest)
    if weights is None:
        raise RunError(f"{folder} has no weights yet: neither {BEST}, nor {LAST}, nor an intact checkpoint")
    return weights


def warn_of_chance(folder: Path, weights: Path) -> None:
    """Warn if the weights are the best ones of a run by so few images that chance has chosen them."""
    if weights.stem != BEST or weights_file(folder / LAST) is None:
        return
    try:
        evaluated: Any = read_sealed(folder / f"{BEST}{MANIFEST}").get("evaluated")
    except (OSError, CheckpointError):
        return  # written by an earlier version, or damaged, of which loading the weights tells
    if is_count(evaluated) and 0 < evaluated < FEW_TO_EVALUATE:
        logger.warning(
            "%s was chosen by its AP on %s, which is little more than chance: %s has the weights of the last epoch",
            *(BEST, counted(evaluated, "image"), folder / LAST),
        )


def config_of_run(folder: Path, overrides: Sequence[str]) -> Config:
    """Return the configuration of a run, named after its folder, without the device that its config.yml may choose.

    Paths of data that are relative to the folder where training was started become absolute.
    """
    name = folder.resolve().name
    own = [f"run_name={json.dumps(name)}"] if names_folder(name) else []
    cfg = load_config(folder / CONFIG_FILE, [*own, *relocated_data(read_config_file(folder), folder)])
    # The user's own come after all of these, since a data set that is named there has other paths.
    return without_files_device(merge_config(cfg, overrides, source="-o"))


def read_config_file(folder: Path) -> Config:
    """Read config.yml without changes.

    Raises:
        ConfigError: it is invalid, or too large to be a configuration.
    """
    path = folder / CONFIG_FILE
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: not the configuration of a run: it has more than {MAX_BYTES} bytes")
    return load_config(path)


def relocated_data(cfg: Config, folder: Path) -> list[str]:
    """Return overrides with absolute paths for data that training found relative to another working directory."""
    bases = [base for base in started_in(folder) if os.path.realpath(base) != os.path.realpath(".")]
    paths: dict[str, str | None] = {}
    for slot in SLOTS if bases else ():
        parameters: Any = cfg.component(slot) if cfg[slot] else {}
        root = parameters.get("dataset_dir")
        for key in ("dataset_dir",) if root else ("image_dir", "anno_path"):
            paths[f"{slot}.{key}"] = find_below(parameters.get(key), bases)
        names = parameters.get("anno_path")
        # TestDataset's anno_path may be relative to the working directory instead of to dataset_dir.
        root = paths.get(f"{slot}.dataset_dir") or root
        if root and names and not os.path.exists(join_path(root, names)):
            paths[f"{slot}.anno_path"] = find_below(names, bases)
    return [f"{key}={json.dumps(path)}" for key, path in paths.items() if path]


def find_below(path: str | None, bases: Sequence[str]) -> str | None:
    """Return a relative path as an absolute one below the first of `bases` in which it exists, else None."""
    if not path or os.path.isabs(os.path.expanduser(path)):
        return None
    candidates = (os.path.abspath(os.path.join(base, path)) for base in bases)
    return next((candidate for candidate in candidates if os.path.exists(candidate)), None)


def started_in(folder: Path) -> list[str]:
    """Return the working directory in which the run was started, from run.json.

    First relative to the folder, which holds when the whole project was moved, then absolute, which holds when the run
    alone was moved. Empty where run.json does not tell.
    """
    try:
        relative, absolute = read_sealed(folder / RUN_FILE)["started_in"]
        places = [str(folder.resolve() / relative), str(Path(absolute))]
        return [path for path in places if path.isprintable()]
    except (OSError, CheckpointError, ValueError, TypeError, KeyError):
        return []


def warn_of_differences(cfg: Config, weights: str, reader: str, instead_of: str = "-c") -> None:
    """Warn if settings that change detections differ from the run that the weights belong to.

    Args:
        reader: EvalReader or TestReader.
        instead_of: what the user should replace by the run's folder, for the warning's advice.
    """
    folder = Path(os.path.expanduser(weights)).parent
    if "://" in weights or not (folder / CONFIG_FILE).is_file():
        return
    try:
        rows = differences(cfg, read_config_file(folder), reader)
    except ConfigError as error:
        logger.warning("%s is not compared with %s: %s", cfg.path, folder / CONFIG_FILE, error)
        return
    if rows:
        listed = "; ".join(f"{key}: {ours} here, {value} there" for key, ours, value in rows)
        logger.warning(
            "%s differs from the configuration that these weights were trained with, so they detect something else: "
            "%s; name the run, %s, instead of %s and weights to use its own settings",
            *(cfg.path, listed, folder, instead_of),
        )
