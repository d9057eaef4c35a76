"""Components and files of PaddleDetection that this project does not have, for error messages."""

import functools
import re
from pathlib import Path

import yaml

from ppdet.core.registry import components_of
from ppdet.utils.disk.files import read_text

FILES = "configuration files"  # the last entry of paddledetection.yml


@functools.cache
def foreign_names() -> dict[str, list[str]]:
    """Return the names in paddledetection.yml by kind."""
    kinds = yaml.safe_load(read_text(Path(__file__).with_suffix(".yml")))
    return {kind: names.split() for kind, names in kinds.items()}


def describe_foreign_component(name: object) -> str | None:
    """Say that a component of PaddleDetection is missing here, and which components of its kind exist.

    Returns None for any other name.
    """
    lower = str(name).lower()
    kind = next((kind for kind, names in foreign_names().items() if lower in map(str.lower, names)), FILES)
    if kind == FILES:
        return None
    available = [schema.name for schema in components_of(kind)]
    hint = f"; {kind} here: {', '.join(available)}" if available else ""
    return f"{name}, one of PaddleDetection's {kind}, is not part of this project, which only has FCOS{hint}"


def is_foreign_config(path: Path) -> bool:
    """Tell whether a YAML file, or its folder in configs, is named like one of PaddleDetection's other detectors."""
    names = [path.stem, *([path.parent.name] if path.parent.parent.name == "configs" else [])]
    foreign = [*foreign_names()["architectures"], *foreign_names()[FILES]]
    words, beginnings = ([re.sub("[^a-z0-9]", "", name.lower()) for name in group] for group in (names, foreign))
    return any(word.startswith(tuple(beginnings)) for word in words)
