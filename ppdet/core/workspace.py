"""The names that users of PaddleDetection know: register, serializable, create, load_config, merge_config."""

import importlib
from pathlib import Path

from ppdet.core.compose.inject import ComponentConfig, create
from ppdet.core.config import Config, Overrides, merge_config, read_config
from ppdet.core.extensions import load_entry_points
from ppdet.core.registry import named, register, serializable
from ppdet.utils.errors import ConfigError

__all__ = [
    "ComponentConfig",
    "Config",
    "ConfigError",
    "create",
    "load_config",
    "merge_config",
    "named",
    "register",
    "serializable",
]

PLUGINS = ("ppdet.data", "ppdet.modeling", "ppdet.optimizer", "ppdet.metrics")


def load_config(path: str | Path, overrides: Overrides = ()) -> Config:
    """Load and validate a YAML file with overrides on top: texts "a.b.0.c=value", or values by dotted key.

    The packages that register components are imported first, installed ones from outside among them. Raises
    ConfigError, one line, for any mistake.
    """
    import_plugins()
    load_entry_points()
    return read_config(path, overrides)


def import_plugins() -> None:
    """Import the packages whose components a configuration may name."""
    for package in PLUGINS:
        importlib.import_module(package)
