"""YAML text to PyYAML's graph of nodes and its scalars, within limits: a configuration may come from a stranger."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

YAML_TAG = "tag:yaml.org,2002:"
MAX_DEPTH = 50  # lists and mappings inside each other; functions that walk a tree call themselves at each level
MAX_DIGITS = 100  # characters of a number
LARGEST_INTEGER = 2**63 - 1
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"
    r"|^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
_LINE_BREAKS = set("\n\x85\u2028\u2029")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass
class Allowance:
    """What all files of one configuration, or all values of -o, may still use together.

    Attributes:
        files: files that are read, each as often as `_BASE_` names it.
        size: bytes of these files.
        values: values, after aliases have become copies. A list or mapping is one value, and so is each of its items.
        characters: characters of keys and scalars, likewise.
    """

    files: int = 100
    size: int = 1_000_000
    values: int = 100_000
    characters: int = 1_000_000


class LimitError(yaml.MarkedYAMLError):
    """The text is correct YAML, but more than a configuration may be."""


def _resolvers() -> dict:
    """Return YAML 1.1's rules for plain words, changed so that 1e-4 is a number and 2024-01-31 is text."""
    replaced = tuple(YAML_TAG + name for name in ("float", "timestamp", "value"))
    return {
        first: [(tag, pattern) for tag, pattern in rules if tag not in replaced]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Loader(yaml.SafeLoader):
    """Reads one document. It counts values while it reads, so that a text beyond the limits ends early."""

    yaml_implicit_resolvers = _resolvers()

    def __init__(self, text: str, allowance: Allowance) -> None:
        super().__init__(text)
        self._most = 2 * allowance.values + 1  # keys are nodes too
        self._nodes = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Read a node and everything in it; PyYAML calls this for each node."""
        self._nodes += 1
        self._depth += 1
        if self._depth > MAX_DEPTH + 1 or self._nodes > self._most:
            problem = TOO_DEEP if self._depth > MAX_DEPTH + 1 else TOO_MANY
            raise LimitError(None, None, problem, self.get_mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


TOO_DEEP = f"lists and mappings are nested too deeply, more than {MAX_DEPTH} levels"
TOO_MANY = f"the configuration has more than {Allowance.values:,} values, counted over all its files and aliases"
TOO_LONG = (
    f"the configuration has more than {Allowance.characters:,} characters, counted over all its files and aliases"
)


class Dumper(yaml.SafeDumper):
    """Writes plain data without aliases."""

    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    # In double quotes line breaks are escaped. In single quotes PyYAML would read NEL (U+0085) back as spaces.
    style = '"' if _LINE_BREAKS & set(text) else None
    return dumper.represent_scalar(YAML_TAG + "str", text, style=style)


Dumper.add_representer(str, _represent_text)


for _class in (Loader, Dumper):
    _class.add_implicit_resolver(YAML_TAG + "float", _FLOAT, list("-+0123456789."))


def read_scalar(loader: Loader, node: yaml.ScalarNode) -> Any:
    """Return the value of a scalar that has one of YAML's own tags.

    Raises:
        ValueError: it has no such value, or one that no setting can have; the message is the end of a sentence that
            begins with the scalar.
    """
    kind = node.tag[len(YAML_TAG) :]
    value: Any = node.value
    if kind in ("int", "float") and len(value) > MAX_DIGITS:
        raise ValueError(f"has {len(value):,} characters, a number has at most {MAX_DIGITS}")
    try:
        if kind != "str":
            value = loader.yaml_constructors[node.tag](loader, node)
    except (ValueError, LookupError, yaml.YAMLError):
        raise ValueError(f"is not a valid {kind}") from None
    problem = problem_of_scalar(value)
    if problem:
        raise ValueError(problem)
    return value


def problem_of_scalar(value: Any) -> str:
    """Say why no setting can have this value, as the end of a sentence that begins with it; "" if one can."""
    if isinstance(value, str) and _NO_TEXT.search(value):
        return "is no text that a path or a name can be: it has a NUL character, or one half of a surrogate pair"
    if type(value) is int and abs(value) > LARGEST_INTEGER:
        return "is beyond the integers of 64 bits"
    return ""
