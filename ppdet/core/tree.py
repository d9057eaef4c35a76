"""YAML text to a tree that remembers where each value stands, and back. Nothing in it can run code."""

import re
import sys
from dataclasses import dataclass
from typing import Any

import yaml

from ppdet.core.registry import is_component, is_taggable, taggable_names
from ppdet.core.suggest.elsewhere import elsewhere
from ppdet.utils.errors import IMPORT_ADVICE, config_error, nearest

MAX_VALUES = 100_000
_LINE_BREAKS = set("\n\x85\u2028\u2029")
_YAML_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {
    yaml.ScalarNode: ("null", "bool", "int", "float", "str"),
    yaml.SequenceNode: ("seq",),
    yaml.MappingNode: ("map",),
}
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"
    r"|^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)


@dataclass(frozen=True)
class Node:
    """A value and its origin. `value` is a scalar, a list of Node, or a dict of Node by key.

    `tag` is the component of a value written `!Component {...}`. `origin` is "file:line", "-o" or a word. `layer` says
    which value lies above which: a file is above its bases, later bases are above earlier ones, -o and merge_config are
    above files; 0 is below all of them.
    """

    value: Any
    origin: str
    tag: str | None = None
    layer: int = 0

    @property
    def is_map(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        return isinstance(self.value, list)


def children(node: Node) -> list[Node]:
    """Return the values of a mapping, the items of a list; none of a scalar."""
    return list(node.value.values()) if node.is_map else node.value if node.is_list else []


def on_layer(node: Node, layer: int) -> Node:
    """Return the same tree with every value on `layer`."""
    value = node.value
    if node.is_map:
        value = {key: on_layer(child, layer) for key, child in value.items()}
    elif node.is_list:
        value = [on_layer(child, layer) for child in value]
    return Node(value, node.origin, node.tag, layer)


def top_layer(node: Node) -> int:
    """Return the highest layer of a value and of everything in it."""
    return max([node.layer, *map(top_layer, children(node))])


def to_plain(node: Node) -> Any:
    """Return the value with all its items as plain Python; `!Name {...}` becomes {"name": "Name", ...}."""
    if node.is_map:
        plain = {key: to_plain(child) for key, child in node.value.items()}
        return plain if node.tag is None else {"name": node.tag, **plain}
    if node.is_list:
        return [to_plain(child) for child in node.value]
    return node.value


def from_plain(value: Any, origin: str) -> Node:
    """Make a tree of plain Python values, all of the same origin."""
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node({key: from_plain(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, (list, tuple)):
        return Node([from_plain(item, origin) for item in value], origin)
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            value = kind(value)  # of numpy's float64 and its like, which YAML has no form for
    return Node(value, origin)


def parse(text: str, file: str, fixed_origin: str | None = None) -> Node:
    """Parse one YAML document. Origins are `file:line`, or `fixed_origin` everywhere if given.

    Raises ConfigError with file:line:column for bad syntax, a repeated key, a module in `requires` that has not been
    imported, and any tag that is not a registered, serializable component. With `fixed_origin`, `file` is what errors
    name beside it.
    """
    try:
        loader = _Loader(text)
        document = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{fixed_origin}: {file}" if fixed_origin else f"{file}:{mark.line + 1}:{mark.column + 1}"
        context = f" ({error.context})" if error.context else ""
        raise config_error(place, "", f"YAML syntax: {error.problem}{context}") from None
    except yaml.YAMLError as error:
        raise config_error(file, "", f"YAML syntax: {error}") from None
    except RecursionError:
        raise config_error(file, "", "YAML is nested too deeply") from None
    if document is None:
        return Node(None, fixed_origin or f"{file}:1")
    builder = _Builder(loader, file, fixed_origin)
    if fixed_origin is None:
        builder.check_requires(document)
    return builder.build(document)


def render(data: Any) -> str:
    """Return plain data as YAML text that `parse` reads back to the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def render_inline(value: Any) -> str:
    """Return plain data as one line of YAML. Raises yaml.YAMLError for objects that YAML has no form for."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=1_000_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


class _Builder:
    """Turns PyYAML's node graph into a tree; an alias becomes a copy of what its anchor holds."""

    def __init__(self, loader: "_Loader", file: str, fixed_origin: str | None) -> None:
        self._loader, self._file, self._fixed_origin = loader, file, fixed_origin
        self._open: list[yaml.Node] = []
        self._count = 0

    def check_requires(self, document: yaml.Node) -> None:
        """Raise ConfigError unless the modules that the file's `requires` names are imported; imports nothing.

        It is called before anything is built, since components of a missing module are unknown as tags and names.
        """
        pairs = document.value if isinstance(document, yaml.MappingNode) else []
        for node in (value for key, value in pairs if key.value == "requires"):
            for item in node.value if isinstance(node, yaml.SequenceNode) else ():
                name = item.value
                if item.tag != f"{_YAML_TAG}str" or name in sys.modules:
                    continue
                module = name.rpartition("/")[2].removesuffix(".py")
                advice = f"write the module's name, {module!r}, without a folder and without .py"
                if module == name:
                    advice = f"add --import {module}, or --import FILE with the path of {module.split('.')[-1]}.py"
                raise config_error(self._origin(item), "requires", f"the module {name!r} is not imported: {advice}")

    def build(self, node: yaml.Node, origin: str | None = None) -> Node:
        self._count += 1
        if self._count > MAX_VALUES:
            raise config_error(self._origin(node), "", f"aliases make more than {MAX_VALUES} values of this file")
        if any(node is parent for parent in self._open):
            raise config_error(self._origin(node), "", "an alias stands inside its own anchor")
        self._open.append(node)
        tag = self._component_tag(node)
        origin = origin or self._origin(node)
        if isinstance(node, yaml.MappingNode):
            built = Node(self._mapping(node), origin, tag)
        elif isinstance(node, yaml.SequenceNode):
            built = Node([self.build(child) for child in node.value], origin)
        elif tag is not None:
            built = Node({}, origin, tag)
        else:
            built = Node(self._scalar(node), origin)
        self._open.pop()
        return built

    def _mapping(self, node: yaml.MappingNode) -> dict[Any, Node]:
        own: dict[Any, Node] = {}
        merged: dict[Any, Node] = {}
        for key_node, value_node in node.value:
            origin = self._origin(key_node)
            if key_node.tag == _YAML_TAG + "merge":
                for key, child in self._merge_key(value_node).items():
                    merged.setdefault(key, child)
                continue
            key = self._key(key_node)
            if key in own:
                raise config_error(origin, str(key), f"the key is set twice, first at {own[key].origin}")
            own[key] = self.build(value_node, origin)
        return {**merged, **own}

    def _merge_key(self, node: yaml.Node) -> dict[Any, Node]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[Any, Node] = {}
        for item in items:
            if not isinstance(item, yaml.MappingNode):
                raise config_error(self._origin(node), "<<", "expected an alias of a mapping, or a list of them")
            for key, child in self.build(item).value.items():
                merged.setdefault(key, child)
        return merged

    def _key(self, node: yaml.Node) -> Any:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            shown = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            raise config_error(self._origin(node), "", f"{shown!r} cannot be a key, write a word (or quote it)")
        return key

    def _component_tag(self, node: yaml.Node) -> str | None:
        tag = node.tag
        if tag.startswith(_YAML_TAG) and tag[len(_YAML_TAG) :] in _PLAIN_TAGS[type(node)]:
            return None
        name = tag[1:] if tag.startswith("!") else ""
        if not name:
            shown = tag.replace(_YAML_TAG, "!!")
            raise config_error(self._place(node), "", f"the YAML tag {shown} is refused: only components can be tags")
        if not is_taggable(name):
            message = elsewhere(name) or f"!{name} is not a component that can be a tag"
            if is_component(name):
                message += f": write {{name: {name}, ...}}, or decorate its class with @serializable"
            else:
                message += nearest(name, taggable_names()) + IMPORT_ADVICE
            raise config_error(self._place(node), "", message)
        if isinstance(node, yaml.SequenceNode) or (isinstance(node, yaml.ScalarNode) and node.value):
            raise config_error(self._place(node), "", f"!{name} takes a mapping of its parameters")
        return name

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if self._component_tag(node) is not None:
            raise config_error(self._place(node), "", f"{node.tag} cannot stand here")
        kind = node.tag[len(_YAML_TAG) :]
        try:
            return _Loader.yaml_constructors[node.tag](self._loader, node) if kind != "str" else node.value
        except (ValueError, KeyError, yaml.YAMLError):
            raise config_error(self._place(node), "", f"{node.value!r} is no valid {kind}") from None

    def _origin(self, node: yaml.Node) -> str:
        return self._fixed_origin or f"{self._file}:{node.start_mark.line + 1}"

    def _place(self, node: yaml.Node) -> str:
        if self._fixed_origin:
            return f"{self._fixed_origin}: {self._file}"
        return f"{self._file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _resolvers() -> dict:
    """YAML 1.1's rules for plain words, but 1e-4 is a number and 2024-01-31 is text."""
    replaced = tuple(_YAML_TAG + name for name in ("float", "timestamp", "value"))
    return {
        first: [(tag, pattern) for tag, pattern in rules if tag not in replaced]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # Escaped, for otherwise a line break would end the line, and PyYAML would read NEL (U+0085) back as spaces.
    style = '"' if _LINE_BREAKS & set(text) else None
    return dumper.represent_scalar(_YAML_TAG + "str", text, style=style)


_Dumper.add_representer(str, _represent_text)


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(_YAML_TAG + "float", _FLOAT, list("-+0123456789."))
