"""What somebody may have meant by a name that is none, in the configuration where it stands."""

from collections.abc import Iterator

from ppdet.core.compose.merge import named_component
from ppdet.core.registry import get_schema, is_component
from ppdet.core.suggest.synonyms import Ours, synonym
from ppdet.core.tree import Node

SCHEDULERS = "LearningRate.schedulers"


def answer(root: Node, name: str, key: str) -> str | None:
    """Say what `name`, an own name or a dotted one of another tool, is called in the configuration of `root`.

    Args:
        key: where it stands. That is never the answer.

    Returns:
        None where nothing is known of it.
    """
    schedulers = list(scheduler_names(root))
    if key.startswith(f"{SCHEDULERS}."):
        index = index_of(name, schedulers)
        if index is not None:
            return f"{SCHEDULERS}.{index}, {schedulers[index]}, has it"
    ours = synonym(name)
    if ours is None:
        return None
    if ours.scheduler:
        parameter = ours.keys[0].rpartition(".")[2]
        index = index_of(parameter, schedulers)
        if index is None:
            has = f"has {', '.join(schedulers)} alone" if schedulers else "is empty"
            return f"here it is {parameter} of {ours.scheduler}, but {SCHEDULERS} {has}: list {ours.scheduler} there"
        ours = ours._replace(keys=(f"{SCHEDULERS}.{index}.{parameter}",))
    return None if key in ours.keys else str(ours)


def is_of(ours: Ours | None, parameters: dict) -> bool:
    """Tell whether a synonym names one of these parameters."""
    return ours is not None and any(key.rpartition(".")[2] in parameters for key in ours.keys)


def scheduler_names(root: Node) -> Iterator[str]:
    """Names of the components that LearningRate.schedulers lists; "?" for what is none."""
    section = root.value.get("LearningRate")
    node = section.value.get("schedulers") if section is not None and section.is_map else None
    for item in node.value if node is not None and node.is_list else ():
        name = named_component(item)
        yield name if is_component(name) else "?"


def index_of(parameter: str, components: list[str]) -> int | None:
    """Position of the first of these components that has a parameter; None if none has."""
    has = (index for index, name in enumerate(components) if name != "?" and parameter in get_schema(name).parameters)
    return next(has, None)
