"""Suggestions for an unknown key, depending on the configuration around it."""

from collections.abc import Collection, Sequence

from ppdet.core.compose.spelling import named_component
from ppdet.core.registry import get_schema, is_component
from ppdet.core.suggest.synonyms import Synonym, synonym
from ppdet.core.tree import Node

SCHEDULERS = "LearningRate.schedulers"


def translate(root: Node, name: str, key: str) -> str | None:
    """Say which key of this configuration an unknown name means.

    Args:
        root: the whole configuration.
        name: the unknown name or dotted key, such as "lr0" or "optimizer.lr", as another tool may call it.
        key: the dotted key at which it is written. This key itself is never the answer.

    Returns:
        None if the name is unknown here too.
    """
    schedulers = scheduler_names(root)
    if key.startswith(f"{SCHEDULERS}."):
        index = index_with_parameter(name, schedulers)
        if index is not None:
            return f"{SCHEDULERS}.{index}, {schedulers[index]}, has it"
    meant = synonym(name)
    if meant is None:
        return None
    if meant.scheduler:
        parameter = meant.keys[0].rpartition(".")[2]
        index = index_with_parameter(parameter, schedulers)
        if index is None:
            has = f"only has {', '.join(schedulers)}" if schedulers else "is empty"
            return f"use {parameter} of {meant.scheduler}; {SCHEDULERS} {has}: add {meant.scheduler} to that list"
        meant = meant._replace(keys=(f"{SCHEDULERS}.{index}.{parameter}",))
    return None if key in meant.keys else str(meant)


def translates_to(meant: Synonym | None, parameters: Collection[str]) -> bool:
    """Tell whether a synonym means one of these parameters."""
    return meant is not None and any(key.rpartition(".")[2] in parameters for key in meant.keys)


def scheduler_names(root: Node) -> list[str]:
    """Return the names of the components in LearningRate.schedulers, with "?" for items that name no component."""
    section = root.value.get("LearningRate")
    node = section.value.get("schedulers") if section is not None and section.is_map else None
    names = [named_component(item) for item in node.value] if node is not None and node.is_list else []
    return [name if name is not None and is_component(name) else "?" for name in names]


def index_with_parameter(parameter: str, components: Sequence[str]) -> int | None:
    """Return the index of the first of these components that has a parameter; None if none has it."""
    having = (i for i, name in enumerate(components) if name != "?" and parameter in get_schema(name).parameters)
    return next(having, None)
