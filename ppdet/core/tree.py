"""YAML text to a tree in which each value knows its file and line, and back. No YAML text can run code."""

import sys
from dataclasses import dataclass
from typing import Any

import yaml

from ppdet.core.registry import is_component, is_taggable, taggable_names
from ppdet.core.suggest.paddledetection import describe_foreign_component
from ppdet.core.yaml_graph import (
    MAX_DEPTH,
    TOO_DEEP,
    TOO_LONG,
    TOO_MANY,
    YAML_TAG,
    Allowance,
    Dumper,
    LimitError,
    Loader,
    problem_of_scalar,
    read_scalar,
)
from ppdet.utils.errors import IMPORT_ADVICE, config_error, nearest
from ppdet.utils.printable import printable, quoted

_PLAIN_TAGS = {
    yaml.ScalarNode: ("null", "bool", "int", "float", "str"),
    yaml.SequenceNode: ("seq",),
    yaml.MappingNode: ("map",),
}


@dataclass(frozen=True)
class Node:
    """A value and where it was set.

    Attributes:
        value: a scalar, a list of nodes, or a dict of nodes by key.
        origin: "file:line", "-o", "default" or the name of a function.
        tag: the component of a value written as `!Component {...}`.
        layer: which of two values wins in merging: that with the higher layer. Defaults are on layer 0, then come a
            file's bases in their order, the file, -o, and the calls of merge_config.
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

    def holding(self, value: Any) -> "Node":
        """Return a node with another value and without a tag, of the same origin and layer."""
        return Node(value, self.origin, None, self.layer)


def children(node: Node) -> list[Node]:
    """Return the values of a mapping or the items of a list; [] for a scalar."""
    return list(node.value.values()) if node.is_map else node.value if node.is_list else []


def as_index(step: str) -> int | None:
    """Return the number that a part of a dotted key is; None if it is none that a list could have as an index."""
    return int(step) if step.isascii() and step.isdigit() and len(step) < 10 else None


def on_layer(node: Node, layer: int) -> Node:
    """Return the same tree with all values on `layer`."""
    value = node.value
    if node.is_map:
        value = {key: on_layer(child, layer) for key, child in value.items()}
    elif node.is_list:
        value = [on_layer(child, layer) for child in value]
    return Node(value, node.origin, node.tag, layer)


def top_layer(node: Node) -> int:
    """Return the highest layer among a value and everything in it."""
    return max([node.layer, *map(top_layer, children(node))])


def to_plain(node: Node) -> Any:
    """Return a value and everything in it as plain Python; `!Name {...}` becomes {"name": "Name", ...}."""
    if node.is_map:
        plain = {key: to_plain(child) for key, child in node.value.items()}
        return plain if node.tag is None else {"name": node.tag, **plain}
    if node.is_list:
        return [to_plain(child) for child in node.value]
    return node.value


def from_plain(value: Any, origin: str) -> Node:
    """Make a tree from plain Python values, all of the same origin. Values that are trees already are returned."""
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node({key: from_plain(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, (list, tuple)):
        return Node([from_plain(item, origin) for item in value], origin)
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            value = kind(value)  # from a subclass such as numpy.float64, which YAML cannot write
    problem = problem_of_scalar(value)
    if problem:
        raise config_error(origin, "", f"a value {problem}")
    return Node(value, origin)


def parse(
    text: str,
    file: str,
    fixed_origin: str | None = None,
    allowance: Allowance | None = None,
    *,
    checks_requires: bool = True,
    expected: str = "",
) -> Node:
    """Parse one YAML document.

    Args:
        file: the file's name, for origins such as "fcos.yml:12" and for errors.
        fixed_origin: origin of all values instead of file:line, such as "-o". `file` is then the key of the value.
        allowance: what the text may have; what it has is subtracted. None: as much as a whole configuration.
        checks_requires: whether a file's modules in `requires` must have been imported.
        expected: what the value of -o may be, such as "int or null", for the error where the text is no YAML.

    Raises:
        ConfigError: with file:line:column, for wrong syntax, a repeated key, a module in `requires` that has not been
            imported, a tag that is not the name of a registered component with @serializable, or more than the
            allowance.
    """
    builder = _Builder(text, file, fixed_origin, allowance or Allowance(), expected)
    document = builder.compose()
    if document is None:
        return Node(None, fixed_origin or f"{file}:1")
    if fixed_origin is None and checks_requires:
        builder.check_requires(document)
    return builder.build(document)


def render(data: Any) -> str:
    """Return plain data as YAML text, from which `parse` reads the same data."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def render_inline(value: Any) -> str:
    """Return plain data as one line of YAML. Raises yaml.YAMLError for objects that YAML cannot write.

    YAML has escapes for control characters. For all of them that are not shown, it has to escape all but ASCII.
    """
    text = _dump(value, readable=True)
    return text if printable(text) == text else _dump(value, readable=False)


def _dump(value: Any, *, readable: bool) -> str:
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, width=1_000_000, allow_unicode=readable)
    return text.removesuffix("\n").removesuffix("\n...")


class _Builder:
    """Converts PyYAML's graph of nodes into a tree. An alias becomes a copy of the anchor's value."""

    def __init__(self, text: str, file: str, fixed_origin: str | None, allowance: Allowance, expected: str) -> None:
        self._text, self._file, self._fixed_origin, self._allowance = text, file, fixed_origin, allowance
        self._expected = expected
        self._open: list[yaml.Node] = []

    def compose(self) -> yaml.Node | None:
        """Read the graph of the document; None if there is none."""
        position = f"{self._fixed_origin}: {self._file}" if self._fixed_origin else self._file
        try:
            self._loader = Loader(self._text, self._allowance)
            return self._loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line_column = f":{mark.line + 1}:{mark.column + 1}" if mark is not None and not self._fixed_origin else ""
            context = f" ({error.context})" if error.context else ""
            problem = f"{error.problem}{context}".replace(r"'\x00'", "the end of the text")
            problem = problem if isinstance(error, LimitError) else self._syntax(problem)
            raise config_error(f"{position}{line_column}", "", problem) from None
        except yaml.YAMLError as error:
            raise config_error(position, "", self._syntax(error)) from None
        except (ValueError, OverflowError) as error:  # of chr() and int(), to which PyYAML passes what it has read
            is_number = "digits" in str(error)
            what = "a number with too many digits" if is_number else "an escape of no character, as \\U00110000"
            problem = f"before the end of line {self._loader.get_mark().line + 1} is {what}"
            raise config_error(position, "", self._syntax(problem)) from None

    def _syntax(self, problem: object) -> str:
        """Say what is wrong with the text, and for a value of -o what is expected."""
        if not self._fixed_origin:
            return f"YAML syntax: {problem}"
        expected = self._expected or "a value of YAML, such as 3, true, text or [1, 2]"
        advice = "text with characters of YAML's syntax needs quotes of its own"
        return f"YAML syntax: {problem}; expected {expected}, got {quoted(self._text)}: {advice}"

    def check_requires(self, document: yaml.Node) -> None:
        """Raise ConfigError if a module that the file's `requires` names has not been imported.

        This comes before the tree is built, because the components of a missing module are unknown names and tags.
        """
        pairs = document.value if isinstance(document, yaml.MappingNode) else []
        for node in (value for key, value in pairs if key.value == "requires"):
            items = node.value if isinstance(node, yaml.SequenceNode) else []
            words = [item for item in items if isinstance(item, yaml.ScalarNode) and item.tag == f"{YAML_TAG}str"]
            missing = [item for item in words if item.value not in sys.modules]
            if not missing:
                continue
            name = missing[0].value
            module = name.rpartition("/")[2].removesuffix(".py")
            advice = f"write the module's name, {module!r}, without a folder and without .py"
            if module == name:
                options = " ".join(f"--import {item.value}" for item in missing)
                advice = f"add {options}, or --import FILE with the path of {module.split('.')[-1]}.py"
            raise config_error(self._origin(missing[0]), "requires", f"the module {name!r} is not imported: {advice}")

    def build(self, node: yaml.Node, origin: str | None = None) -> Node:
        self._allowance.values -= 1
        self._require(self._allowance.values >= 0, node, TOO_MANY)
        self._require(len(self._open) <= MAX_DEPTH, node, TOO_DEEP)
        if any(node is parent for parent in self._open):
            raise config_error(self._place(node, column=False), "", "an alias is inside its own anchor")
        self._open.append(node)
        tag = self._component_tag(node)
        origin = origin or self._origin(node)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.build(child) for child in node.value]
        elif isinstance(node, yaml.ScalarNode):
            value = {} if tag is not None else self._scalar(node)
        self._open.pop()
        return Node(value, origin, tag)

    def _mapping(self, node: yaml.MappingNode) -> dict[Any, Node]:
        own: dict[Any, Node] = {}
        merged: dict[Any, Node] = {}
        for key_node, value_node in node.value:
            origin = self._origin(key_node)
            if key_node.tag == YAML_TAG + "merge":
                for key, child in self._merge_key(value_node).items():
                    merged.setdefault(key, child)
                continue
            key = self._key(key_node)
            if key in own:
                place = self._place(key_node, column=False)
                raise config_error(place, str(key), f"the key is set twice, first at {own[key].origin}")
            own[key] = self.build(value_node, origin)
        return {**merged, **own}

    def _merge_key(self, node: yaml.Node) -> dict[Any, Node]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[Any, Node] = {}
        for item in items:
            if not isinstance(item, yaml.MappingNode):
                raise config_error(
                    self._place(node, column=False), "<<", "expected an alias of a mapping, or a list of them"
                )
            for key, child in self.build(item).value.items():
                merged.setdefault(key, child)
        return merged

    def _key(self, node: yaml.Node) -> Any:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            shown = quoted(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            message = f"{shown} cannot be a key: write a word, or put it in quotes"
            raise config_error(self._place(node, column=False), "", message)
        return key

    def _component_tag(self, node: yaml.Node) -> str | None:
        tag = node.tag
        if tag.startswith(YAML_TAG) and tag[len(YAML_TAG) :] in _PLAIN_TAGS[type(node)]:
            return None
        name = tag[1:] if tag.startswith("!") else ""
        if not name:
            shown = tag.replace(YAML_TAG, "!!")
            raise config_error(
                self._place(node), "", f"the YAML tag {shown} is refused: a tag must be the name of a component"
            )
        if not is_taggable(name):
            message = describe_foreign_component(name) or f"!{name} is not a component that can be a tag"
            if is_component(name):
                message += f": write {{name: {name}, ...}}, or decorate its class with @serializable"
            else:
                message += nearest(name, taggable_names()) + IMPORT_ADVICE
            raise config_error(self._place(node), "", message)
        if isinstance(node, yaml.SequenceNode) or (isinstance(node, yaml.ScalarNode) and node.value):
            raise config_error(self._place(node), "", f"expected a mapping of parameters after !{name}")
        return name

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if self._component_tag(node) is not None:
            raise config_error(self._place(node), "", f"the tag {node.tag} is not allowed here")
        self._allowance.characters -= len(node.value)
        self._require(self._allowance.characters >= 0, node, TOO_LONG)
        try:
            return read_scalar(self._loader, node)
        except ValueError as error:
            raise config_error(self._place(node), "", f"{quoted(node.value)} {error}") from None

    def _require(self, is_met: bool, node: yaml.Node, problem: str) -> None:
        if not is_met:
            raise config_error(self._place(node), "", problem)

    def _origin(self, node: yaml.Node) -> str:
        return self._fixed_origin or f"{self._file}:{node.start_mark.line + 1}"

    def _place(self, node: yaml.Node, *, column: bool = True) -> str:
        if self._fixed_origin:
            return f"{self._fixed_origin}: {self._file}"
        return self._origin(node) + (f":{node.start_mark.column + 1}" if column else "")
