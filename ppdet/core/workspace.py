"""The functions that users of PaddleDetection know: register, serializable, create, load_config, merge_config."""

import importlib
from pathlib import Path
from typing import Any

from ppdet.core.compose.inject import ComponentConfig
from ppdet.core.config import Config, Overrides, merge_config, read_config
from ppdet.core.extensions import load_entry_points
from ppdet.core.registry import named, register, serializable
from ppdet.utils.errors import ConfigError

__all__ = [
    "ComponentConfig",
    "Config",
    "ConfigError",
    "create",
    "import_components",
    "load_config",
    "merge_config",
    "named",
    "register",
    "serializable",
]

PACKAGES = ("ppdet.data", "ppdet.modeling", "ppdet.optimizer", "ppdet.metrics")  # those that register components


def load_config(path: str | Path, overrides: Overrides = ()) -> Config:
    """Load and validate a YAML file.

    Args:
        overrides: values to merge over the file: texts such as "TrainReader.batch_size=4", or values by dotted key.

    Raises:
        ConfigError: the first mistake, in one line with file and line.
    """
    import_components()
    return read_config(path, overrides)


def create(name: str, config: Config, **kwargs: Any) -> Any:
    """Build a component; the same as `config.create(name, **kwargs)`."""
    return config.create(name, **kwargs)


def import_components() -> None:
    """Import all packages that register components: this project's, and installed ones with an entry point."""
    for package in PACKAGES:
        importlib.import_module(package)
    load_entry_points()
