"""A merged configuration: loading it, asking it, writing it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppdet.core.compose.effect import check_effect
from ppdet.core.compose.inject import ComponentConfig, component_config, create
from ppdet.core.compose.lookup import filled, find
from ppdet.core.compose.merge import merge_root, override
from ppdet.core.compose.scaling import literal_values
from ppdet.core.compose.validate import validate
from ppdet.core.settings import FREE_PREFIX, SETTINGS, SLOTS, setting_names
from ppdet.core.shipped_configs import find_config, shipped_configs
from ppdet.core.suggest.elsewhere import is_file_of_others
from ppdet.core.tree import Node, from_plain, on_layer, parse, render, to_plain, top_layer
from ppdet.utils.disk.files import NULS, read_text
from ppdet.utils.errors import ConfigKeyError, config_error, nearest

__all__ = ["Config", "merge_config", "read_config"]

Overrides = Iterable[str] | Mapping[str, Any] | None  # texts key=value, or values by dotted key

BASE_KEY = "_BASE_"


class Config(Mapping):
    """A validated configuration. It never changes; `merge_config` makes another one.

    As a mapping it holds the global settings: `config["log_iter"]` is what the files or -o say, or a default.
    Components are asked for with `component` and built with `create`.
    """

    def __init__(self, root: Node, path: str, layers: Sequence[Node] = (), files: int = 0) -> None:
        """`layers`: of each layer what it sets, or all that is set when it has been merged; the first `files` of them
        are files."""
        self.root = root
        self.layers = tuple(layers)
        self.files = files
        self.path = path
        validate(root)

    @property
    def name(self) -> str:
        """Name of the run: run_name, or the file's name without its suffix."""
        return self["run_name"] or Path(self.path).stem

    def __getitem__(self, key: str) -> Any:
        node = self.root.value.get(key)
        setting = SETTINGS.get(key)
        if setting is not None:
            return to_plain(filled(setting, node))
        if key in SLOTS:
            return None if node is None else to_plain(node)
        if node is not None and str(key).startswith(FREE_PREFIX):
            return to_plain(node)
        raise ConfigKeyError(f"there is no global setting {key!r}{nearest(str(key), setting_names())}")

    def __iter__(self) -> Iterable[str]:
        own = [key for key in self.root.value if str(key).startswith(FREE_PREFIX)]
        return iter([*setting_names(), *own])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def create(self, name: str, **kwargs: Any) -> Any:
        """Build the component `name`, the one that the slot `name` (TrainDataset, ...) holds, or the list `hooks`.

        Keyword arguments go to its from_config if it has one, else to its constructor.
        """
        return create(name, self, **kwargs)

    def component(self, name: str) -> ComponentConfig:
        """Return the parameters of a component or slot, defaults included, without building it."""
        return component_config(self.root, name)

    def origin(self, key: str) -> str:
        """Say where the value at a dotted key comes from: "file:line", "-o" or "default".

        Raises ConfigKeyError, with the nearest name, for a key that does not exist.
        """
        return find(self.root, key).origin

    def value(self, key: str) -> Any:
        """Return the value at a dotted key as `origin` finds it, a default included."""
        return to_plain(find(self.root, key))

    def layer(self, key: str) -> int:
        """Return the number of the layer that sets the value at a dotted key, or a part of it; 0 for a default.

        Layers are numbered from 1: files in the order in which they are merged, then -o, then each merge_config.
        """
        return top_layer(find(self.root, key))

    def up_to_layer(self, key: str, layer: int) -> Any:
        """Return the value at a dotted key of mappings as it was before anything above `layer` was merged."""
        for node in reversed(self.layers[:layer]):
            for step in key.split("."):
                node = node.value.get(step) if node is not None and node.is_map else None
            if node is not None:
                return to_plain(node)
        return to_plain(find(Node({}, "default"), key))

    def is_set(self, key: str) -> bool:
        """Tell whether a file, -o or merge_config sets the value at a dotted key."""
        return self.origin(key) != "default"

    def without(self, keys: Iterable[str]) -> "Config":
        """Return the configuration in which nothing sets these global settings."""
        gone = set(keys)

        def rest(node: Node) -> Node:
            return Node(
                {key: value for key, value in node.value.items() if key not in gone}, node.origin, None, node.layer
            )

        return Config(rest(self.root), self.path, [rest(layer) for layer in self.layers], self.files)

    def flattened(self) -> "Config":
        """Return the configuration as one file can say it.

        In one file nothing lies above auto_lr, so `auto_lr.literal` names the values that are the user's own.
        """
        own = literal_values(self) if self["auto_lr"] is not None else []
        if not own:
            return self
        value = on_layer(from_plain(own, "the user's own"), len(self.layers) + 1)
        root = override(self.root, "auto_lr.literal", value)
        return Config(root, self.path, [*self.layers, root], self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that is set as plain Python; `!Name {...}` becomes {"name": "Name", ...}.

        To write it as one file, take `flattened().to_dict()`, or `dump`.
        """
        return to_plain(self.root)

    def dump(self, path: str | Path) -> None:
        """Write one YAML file, without bases, that loads to the same configuration and behaves the same."""
        text = render(self.flattened().to_dict())
        shown = " ".join(self.path.split())  # a line break in it would end the comment
        Path(path).write_text(f"# merged from {shown}\n{text}", encoding="utf-8")


def read_config(path: str | Path, overrides: Overrides = ()) -> Config:
    """Read a file, its bases and the overrides, and validate the result.

    `path` may be the name of a shipped configuration, such as fcos_r50_fpn_1x_coco.
    Overrides are texts "a.b.0.c=value", of origin -o, or values by dotted key, of origin load_config.
    """
    layers: list[Node] = []
    file = find_config(path)
    root = _read_file(file, (), layers)
    above = _read_overrides(overrides, "load_config", "-o")
    return _put_on_top(root, above, str(file), layers, len(layers), is_new=True)


def merge_config(config: Config, values: Overrides, source: str = "merge_config") -> Config:
    """Return another configuration with `values` merged in: by dotted key, or texts "a.b.0.c=value".

    `source` becomes their origin.
    """
    above = _read_overrides(values, source, source)
    return _put_on_top(config.root, above, config.path, config.layers, config.files, is_new=False)


def _read_overrides(values: Overrides, source: str, text_source: str) -> list[tuple[str, Node]]:
    """Values by dotted key, from a mapping of origin `source`, or from texts of origin `text_source`."""
    if isinstance(values, Mapping):
        for key in values:
            if not isinstance(key, str):
                raise config_error(source, "", f"expected a dotted key, such as 'ResNet.depth', got {key!r}")
        return [(key, from_plain(value, source)) for key, value in values.items()]
    if isinstance(values, (str, bytes)) or not isinstance(values, (Iterable, type(None))):
        forms = "values by dotted key, such as {'ResNet.depth': 18}, or a list of texts, such as ['ResNet.depth=18']"
        raise config_error(source, "", f"expected {forms}, got {values!r}")
    return [_read_override(text, text_source) for text in values or ()]


def _read_override(text: str, source: str) -> tuple[str, Node]:
    key, separator, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not separator or not key.strip():
        raise config_error(source, "", f"expected key=value, such as ResNet.depth=18, got {text!r}")
    return key.strip(), parse(value, key.strip(), fixed_origin=source)


def _put_on_top(
    root: Node, above: list[tuple[str, Node]], path: str, layers: Sequence[Node], files: int, *, is_new: bool
) -> Config:
    """Return the configuration with one more layer, of the values by dotted key `above`."""
    for key, value in above:
        root = override(root, key, on_layer(value, len(layers) + 1))
    config = Config(root, path, [*layers, root], files)
    check_effect(config, len(config.layers), is_new=is_new)
    return config


def _read_file(path: Path, chain: tuple[Path, ...], layers: list[Node], included_at: str | None = None) -> Node:
    shown = display_path(path)
    real = path.resolve()
    if real in chain:
        circle = " -> ".join(display_path(file) for file in (*chain[chain.index(real) :], real))
        raise config_error(included_at or shown, BASE_KEY, f"the files include each other: {circle}")
    root = parse(_read_text(path, included_at), shown)
    if root.value is None:
        root = Node({}, f"{shown}:1")
    if not root.is_map or root.tag is not None:
        raise config_error(root.origin, "", "expected a mapping of sections and settings")
    items = dict(root.value)
    bases = items.pop(BASE_KEY, None)
    merged = Node({}, root.origin)
    for base in _base_nodes(bases):
        file = find_config(base.value, path.parent)
        merged = merge_root(merged, _read_file(file, (*chain, real), layers, base.origin))
    layers.append(on_layer(Node(items, root.origin), len(layers) + 1))
    return merge_root(merged, layers[-1])


def _base_nodes(bases: Node | None) -> list[Node]:
    if bases is None or bases.value is None:
        return []
    nodes = bases.value if bases.is_list else [bases]
    for node in nodes:
        if not isinstance(node.value, str):
            raise config_error(node.origin, BASE_KEY, "expected the path of a YAML file, or a list of them")
    return nodes


def _read_text(path: Path, included_at: str | None) -> str:
    place, key = (included_at, BASE_KEY) if included_at else (display_path(path), "")
    shown = f" {display_path(path)!r}" if included_at else ""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise config_error(place, key, f"no such file{shown}{_nearest_file(path)}") from None
    except UnicodeDecodeError:
        raise config_error(place, key, f"file{shown} is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        hint = _in_folder(path) if path.is_dir() else ""
        raise config_error(place, key, f"cannot read file{shown}: {error.strerror}{hint}") from None
    if "\0" in text:
        raise config_error(place, key, f"file{shown} {NULS}")
    return text


def _in_folder(path: Path) -> str:
    """Which YAML files a folder has that stands in place of one."""
    files = sorted(path.glob("*.y*ml"))
    if len(files) == 1:
        return f"; did you mean {display_path(files[0])!r}?"
    names = ", ".join(file.name for file in files[:5]) + (", …" if len(files) > 5 else "")
    return f"; it holds {names}" if files else ""


def _nearest_file(path: Path) -> str:
    """Return "; did you mean PATH?": a file in the same folder, or one of the repository's configs/ of that name."""
    siblings = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    stem = path.stem if path.suffix in (".yml", ".yaml") else path.name
    for name in (f"{stem}.yml", f"{stem}.yaml"):
        if name in siblings:
            return f"; did you mean {display_path(path.with_name(name))!r}?"
    shipped = shipped_configs()
    sibling, close = nearest(path.name, siblings), nearest(stem, shipped)
    if stem not in shipped and not sibling and is_file_of_others(path):
        folders = "configs/fcos and configs/semi_det"
        return f"; this project is PaddleDetection's FCOS alone, and its configurations are in {folders}"
    if stem in shipped or (close and not sibling):
        if path.parent == Path():
            return f"{close} (ppdet config --configs lists the shipped ones)"
        found = shipped[stem if stem in shipped else close.split("'")[1]]
        return f"; did you mean {display_path(found)!r}?"
    return sibling


def display_path(path: Path) -> str:
    """Return a path as errors show it: relative if it is below the current folder, else absolute."""
    resolved = path.resolve()
    try:
        return str(resolved.relative_to(Path.cwd()))
    except ValueError:
        return str(resolved)
