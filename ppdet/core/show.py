"""A merged configuration as text: every value, defaults included, with the place where it was set."""

import itertools
from collections.abc import Iterator

import yaml

from ppdet.core.compose.inject import MAX_DEPTH, ComponentConfig
from ppdet.core.compose.lookup import find
from ppdet.core.compose.walk import walk
from ppdet.core.config import Config
from ppdet.core.registry import is_component
from ppdet.core.schema import Parameter, fits, type_in_words
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.tree import Node, render_inline, to_plain
from ppdet.utils.errors import config_error
from ppdet.utils.printable import printable

MAX_LINES = 20_000  # of a top-level key
COMMENT_COLUMN = 60  # where comments start, unless a line is longer
Lines = Iterator[tuple[str, str]]  # YAML text, and the origin of the value in it, which becomes a comment


def show(config: Config) -> str:
    """Return YAML text that loads to the same configuration, with each value's origin: file:line, -o or default."""
    config = config.flattened()
    keys = list(config.root.value)
    used = dict.fromkeys(component.key for component in walk(config) if is_component(component.key))
    keys += [name for name in used if name not in config.root.value]
    lines = _blocks(config, keys)
    lines += [("", ""), ("# global settings with their default values", "")]
    unset = [key for key in SETTINGS if key not in config.root.value and not SETTINGS[key].unused]
    lines += _blocks(config, [key for key in unset if fits(SETTINGS[key].default, SETTINGS[key].annotation)])
    return "\n".join(_align(lines)) + "\n"


def _blocks(config: Config, keys: list[str]) -> list[tuple[str, str]]:
    """Return the lines of top-level keys, with empty lines around keys that take more than one line."""
    lines: list[tuple[str, str]] = []
    previous = 1
    for key in keys:
        block = list(itertools.islice(_top_level(config, key), MAX_LINES + 1))
        if len(block) > MAX_LINES:
            problem = f"it has more than {MAX_LINES:,} values, because components of lists contain lists of components"
            raise config_error(config.root.value.get(key, config.root).origin, key, problem)
        if lines and max(len(block), previous) > 1:
            lines.append(("", ""))
        lines += block
        previous = len(block)
    return lines


def _align(lines: list[tuple[str, str]]) -> list[str]:
    width = min(max((len(text) for text, _ in lines), default=0), COMMENT_COLUMN)
    return [f"{text:<{width}}  # {printable(origin)}" if origin else text for text, origin in lines]


def _top_level(config: Config, key: str) -> Lines:
    """Yield the lines of a top-level key: a component, a slot or a global setting."""
    node = config.root.value.get(key, Node({}, "default"))
    if is_component(key):
        component = config.component(key)
        yield f"{key}:{'' if len(component) else ' {}'}", node.origin
        yield from _parameters(component, "  ")
    elif key in SLOTS and node.value is not None:
        component = config.component(key)
        yield f"{key}:", node.origin
        yield f"  name: {component.schema.name}", node.origin
        yield from _parameters(component, "  ")
    elif key in SETTINGS:
        yield from _value_lines(key, find(config.root, key), "")
    else:
        yield from _value_lines(key, node, "")


def _parameters(config: ComponentConfig, indent: str) -> Lines:
    """Yield the lines of all parameters of a component."""
    for parameter in config.schema.parameters.values():
        if parameter.given:
            continue
        if parameter.required and parameter.name not in config.values_set:
            yield f"{indent}# {parameter.name}: {type_in_words(parameter.annotation)}, supplied by the program", ""
        elif parameter.injected:
            yield from _injected(config, parameter, indent)
        else:
            yield from _value_lines(parameter.name, config.node(parameter), indent)


def _injected(config: ComponentConfig, parameter: Parameter, indent: str) -> Lines:
    """Yield the lines of a parameter that holds components, with the parameters of each of them."""
    node, name = config.node(parameter), parameter.name
    if config.key.count(".") > MAX_DEPTH:
        raise config_error(config.location, config.key, f"{config.schema.name} is inside itself without end")
    if node.is_list and node.value:
        yield f"{indent}{name}:", node.origin
        for index, item in enumerate(node.value):
            below = config.nested(item, f"{config.key}.{name}.{index}")
            yield f"{indent}- {below.schema.name}:{'' if len(below) else ' {}'}", item.origin
            yield from _parameters(below, indent + "    ")
    elif node.is_map:
        below = config.nested(node, f"{config.key}.{name}", parameter.default)
        yield f"{indent}{name}:", node.origin
        yield f"{indent}  name: {below.schema.name}", node.value.get("name", node).origin
        yield from _parameters(below, indent + "  ")
    else:
        yield from _value_lines(name, node, indent)


def _value_lines(key: str, node: Node, indent: str) -> Lines:
    """Yield the lines of a value without components. An object from Python, which YAML cannot write, is a comment."""
    if node.is_map and node.value:
        yield f"{indent}{render_inline(key)}:", node.origin
        for name, child in node.value.items():
            yield from _value_lines(name, child, indent + "  ")
        return
    try:
        yield f"{indent}{render_inline(key)}: {render_inline(to_plain(node))}", node.origin
    except yaml.YAMLError:
        yield f"{indent}# {render_inline(key)}: {printable(repr(node.value))}", node.origin
