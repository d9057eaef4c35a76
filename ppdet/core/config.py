"""A merged configuration: loading it, changing it, asking for values, writing it to a file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppdet.core.compose.effect import check_effect
from ppdet.core.compose.inject import ComponentConfig, component_config, listed_components
from ppdet.core.compose.lookup import expected_value, find, with_defaults
from ppdet.core.compose.merge import in_order, override
from ppdet.core.compose.scaling import literal_values
from ppdet.core.compose.validate import validate
from ppdet.core.compose.walk import walk
from ppdet.core.settings import FREE_PREFIX, SETTINGS, SLOTS, setting_names
from ppdet.core.shipped_configs import find_config
from ppdet.core.tree import Node, from_plain, on_layer, parse, render, to_plain, top_layer
from ppdet.core.yaml_files import read_files
from ppdet.utils.errors import ConfigKeyError, config_error, nearest
from ppdet.utils.masking import masked_values
from ppdet.utils.printable import printable

Overrides = Iterable[str] | Mapping[str, Any] | None  # ["ResNet.depth=18"], or {"ResNet.depth": 18}


class Config(Mapping[str, Any]):
    """A validated configuration. It never changes; `merge_config` makes another one.

    As a mapping it contains the global settings: `config["log_iter"]` is the value that a file or -o sets, or else the
    default. `component` returns the parameters of a component, `create` builds one.

    Attributes:
        path: the file from which the configuration was loaded.
        layers: what the files set, one layer for each file, bases first; then, for -o and each merge_config, the whole
            configuration after that merge.
        files: number of layers that are files.
    """

    def __init__(self, root: Node, path: str, layers: Sequence[Node] = (), files: int = 0) -> None:
        """Validate `root`, the merged tree. Raises ConfigError for the first mistake."""
        self.root = root
        self.layers = tuple(layers)
        self.files = files
        self.path = path
        validate(root)

    @property
    def name(self) -> str:
        """Name of the run: run_name, or else the file's name without its suffix."""
        return self["run_name"] or Path(self.path).stem

    def __getitem__(self, key: str) -> Any:
        node = self.root.value.get(key)
        setting = SETTINGS.get(key)
        if setting is not None:
            return to_plain(with_defaults(setting, node))
        if key in SLOTS:
            return None if node is None else to_plain(node)
        if node is not None and str(key).startswith(FREE_PREFIX):
            return to_plain(node)
        raise ConfigKeyError(f"there is no global setting {key!r}{nearest(str(key), setting_names())}")

    def __iter__(self) -> Iterator[str]:
        free = [key for key in self.root.value if str(key).startswith(FREE_PREFIX)]
        return iter([*setting_names(), *free])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def create(self, name: str, **kwargs: Any) -> Any:
        """Build a component, or the components of a global setting such as `hooks`.

        Args:
            name: a component, a slot such as TrainDataset, or a global setting that is a list of components.
            **kwargs: arguments for the component's `from_config` if it has one, else for its constructor.

        Returns:
            The object, or a list of objects.
        """
        if name in SETTINGS and SETTINGS[name].holds_components:
            return [component.build(kwargs) for component in listed_components(self.root, name)]
        return self.component(name).build(kwargs)

    def component(self, name: str) -> ComponentConfig:
        """Return the parameters of a component or slot, defaults included, without building it."""
        return component_config(self.root, name)

    def origin(self, key: str) -> str:
        """Return where the value at a dotted key was set: "file:line", "-o" or "default".

        Raises:
            ConfigKeyError: the key does not exist; the message has the nearest name.
        """
        return find(self.root, key).origin

    def value(self, key: str) -> Any:
        """Return the effective value at a dotted key, which may be a default."""
        return to_plain(find(self.root, key))

    def layer(self, key: str) -> int:
        """Return the number of the layer that sets the value at a dotted key, or a part of it; 0 for a default.

        Layers are numbered from 1: the files, bases first, then -o, then each call of merge_config.
        """
        return top_layer(find(self.root, key))

    def up_to_layer(self, key: str, layer: int) -> Any:
        """Return the value at a dotted key of mappings without the layers above `layer`."""
        for root in reversed(self.layers[:layer]):
            node: Node | None = root
            for step in key.split("."):
                node = node.value.get(step) if node is not None and node.is_map else None
            if node is not None:
                return to_plain(node)
        return to_plain(find(Node({}, "default"), key))

    def is_set(self, key: str) -> bool:
        """Tell whether a file, -o or merge_config sets the value at a dotted key."""
        return self.origin(key) != "default"

    def without(self, keys: Iterable[str]) -> "Config":
        """Return a configuration in which these global settings are not set."""
        removed = set(keys)

        def rest(node: Node) -> Node:
            return node.holding({key: value for key, value in node.value.items() if key not in removed})

        return Config(rest(self.root), self.path, [rest(layer) for layer in self.layers], self.files)

    def flattened(self) -> "Config":
        """Return a configuration that one file can express, without losing which values are the user's own.

        auto_lr does not scale values of files above the one that sets it. A single file has no file above, so
        `auto_lr.literal` lists these values instead.
        """
        literal = literal_values(self) if self["auto_lr"] is not None else []
        if not literal:
            return self
        value = on_layer(from_plain(literal, "the user's own"), len(self.layers) + 1)
        root = override(self.root, "auto_lr.literal", value)
        return Config(root, self.path, [*self.layers, root], self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that is set as plain Python; `!Name {...}` becomes {"name": "Name", ...}.

        `flattened().to_dict()` can be written as one file.
        """
        return to_plain(self.root)

    def dump(self, path: str | Path, *, hides_secrets: bool = False) -> None:
        """Write one YAML file without bases from which the same configuration can be loaded.

        Args:
            hides_secrets: write addresses without passwords and queries, as a file that others read has them.
        """
        values = self.flattened().to_dict()
        text = render(masked_values(values) if hides_secrets else values)
        Path(path).write_text(f"# merged from {printable(self.path)}\n{text}", encoding="utf-8")


def read_config(path: str | Path, overrides: Overrides = ()) -> Config:
    """Read a YAML file, its bases and overrides, and validate the result.

    Args:
        path: a file, or the name of a shipped configuration such as fcos_r50_fpn_1x_coco.
        overrides: texts get the origin "-o", a mapping gets "load_config".
    """
    file = find_config(path)
    root, layers = read_files(file)
    values = _read_overrides(overrides, "load_config", "-o")
    return _add_layer(root, values, str(file), layers, len(layers), is_new=True)


def merge_config(config: Config, values: Overrides, source: str = "merge_config") -> Config:
    """Return another configuration with values merged in; the first one stays unchanged.

    Args:
        values: texts such as "TrainReader.sample_transforms.1.Resize.interp=2", or values by dotted key.
        source: origin of the values, for messages.
    """
    nodes = _read_overrides(values, source, source)
    return _add_layer(config.root, nodes, config.path, config.layers, config.files, is_new=False)


def _read_overrides(values: Overrides, source: str, text_source: str) -> list[tuple[str, Node]]:
    """Return overrides as dotted keys and trees, with the origin `source` for a mapping, `text_source` for texts."""
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
    key = key.strip()
    return key, parse(value, key, fixed_origin=source, expected=expected_value(key))


def _add_layer(
    root: Node, values: Sequence[tuple[str, Node]], path: str, layers: Sequence[Node], files: int, *, is_new: bool
) -> Config:
    """Return a configuration with one more layer: `values` by dotted key, in any order, merged over `root`.

    `is_new` means that the files have just been loaded, so that settings of theirs without effect are reported too.
    """
    for key, value in in_order(values):
        root = override(root, key, on_layer(value, len(layers) + 1))
    config = Config(root, path, [*layers, root], files)
    for component in walk(config):
        component.check_settings()
    check_effect(config, len(config.layers), is_new=is_new)
    return config
