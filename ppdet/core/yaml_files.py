"""Reading configuration files: a YAML file, its bases, and helpful errors for files that cannot be read."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from ppdet.core.compose.merge import merge_root
from ppdet.core.shipped_configs import find_config, shipped_configs
from ppdet.core.suggest.paddledetection import is_foreign_config
from ppdet.core.tree import Node, on_layer, parse
from ppdet.core.yaml_graph import Allowance
from ppdet.utils.disk.files import LONGEST_PATH, NUL_ADVICE, decode_text, display_path, read_regular
from ppdet.utils.errors import config_error, nearest, nearest_name
from ppdet.utils.printable import quoted

BASE_KEY = "_BASE_"


def read_files(path: Path) -> tuple[Node, list[Node]]:
    """Read a YAML file and the bases that it names.

    Returns:
        All files merged, and what each file sets: first the bases in the order in which they are merged, then the file.

    Raises:
        ConfigError: a file cannot be read, or all files together are more than `Allowance` says.
    """
    reader = _Reader()
    return reader.read(path, ()), reader.layers


class _Reader:
    """Reads the files of one configuration. A file counts as often as it is named, because each of its copies is kept.

    Attributes:
        layers: what each file sets, in the order of merging.
    """

    def __init__(self) -> None:
        self.layers: list[Node] = []
        self._allowance = Allowance()

    def read(self, path: Path, parents: tuple[Path, ...], included_at: str | None = None) -> Node:
        """Read a file and its bases, and append what each of them sets to `layers`.

        Args:
            parents: files that include this one, outermost first.
            included_at: place of the `_BASE_` entry that names the file, such as "fcos.yml:1".
        """
        shown = display_path(path)
        real = Path(os.path.realpath(path))
        if real in parents:
            circle = " -> ".join(display_path(file) for file in (*parents[parents.index(real) :], real))
            raise config_error(included_at or shown, BASE_KEY, f"the files include each other: {circle}")
        root = parse(self._text(path, included_at), shown, allowance=self._allowance)
        if root.value is None:
            root = Node({}, f"{shown}:1")
        if not root.is_map or root.tag is not None:
            raise config_error(root.origin, "", "expected a mapping of sections and settings")
        items = dict(root.value)
        merged = Node({}, root.origin)
        for base in _base_nodes(items.pop(BASE_KEY, None)):
            file = find_config(base.value, path.parent)
            merged = merge_root(merged, self.read(file, (*parents, real), base.origin))
        self.layers.append(on_layer(Node(items, root.origin), len(self.layers) + 1))
        return merge_root(merged, self.layers[-1])

    def _text(self, path: Path, included_at: str | None) -> str:
        # A link keeps its own name here, as the user gave it.
        own = str(path) if os.path.islink(path) else display_path(path)
        place, key = (included_at, BASE_KEY) if included_at else (own, "")
        shown = f" {display_path(path)!r}" if included_at else ""
        allowance = self._allowance
        allowance.files -= 1
        if allowance.files < 0:
            most = f"{Allowance.files} files, counting a file as often as it is named"
            raise config_error(place, key, f"the configuration includes more than {most}")
        try:
            data = read_regular(path, allowance.size)
            text = decode_text(data)
        except FileNotFoundError:
            raise config_error(place, key, f"no such file{shown}{_similar_file(path)}") from None
        except UnicodeDecodeError:
            raise config_error(place, key, f"file{shown} is not UTF-8 text: save it as UTF-8") from None
        except OSError as error:
            if error.errno == errno.EFBIG:
                most = f"all files of a configuration have at most {Allowance.size:,} bytes"
                raise config_error(place, key, f"file{shown} is too large: {most}") from None
            hint = _files_in_folder(path) if os.path.isdir(path) else ""
            raise config_error(place, key, f"cannot read file{shown}: {error.strerror}{hint}") from None
        allowance.size -= len(data)
        if "\0" in text:
            raise config_error(place, key, f"file{shown} {NUL_ADVICE}")
        return text


def _base_nodes(bases: Node | None) -> Sequence[Node]:
    """Return the paths in the value of `_BASE_`."""
    if bases is None or bases.value is None:
        return []
    nodes: list[Node] = bases.value if bases.is_list else [bases]
    for node in nodes:
        if not isinstance(node.value, str):
            raise config_error(node.origin, BASE_KEY, "expected the path of a YAML file, or a list of them")
        if len(node.value) > LONGEST_PATH:
            problem = f"{quoted(node.value)} has {len(node.value):,} characters, a path has at most {LONGEST_PATH:,}"
            raise config_error(node.origin, BASE_KEY, problem)
    return nodes


def _files_in_folder(folder: Path) -> str:
    """Return a hint with the YAML files in a folder that was given instead of a file; "" if it has none."""
    files = sorted(folder.glob("*.y*ml"))
    if len(files) == 1:
        return f"; did you mean {display_path(files[0])!r}?"
    names = ", ".join(file.name for file in files[:5]) + (", …" if len(files) > 5 else "")
    return f"; it contains {names}" if files else ""


def _similar_file(path: Path) -> str:
    """Return "; did you mean PATH?" for a missing file: one in the same folder, or a similar name in configs/."""
    siblings = [file.name for file in path.parent.glob("*.y*ml")] if os.path.isdir(path.parent) else []
    stem = path.stem if path.suffix in (".yml", ".yaml") else path.name
    for name in (f"{stem}.yml", f"{stem}.yaml"):
        if name in siblings:
            return f"; did you mean {display_path(path.with_name(name))!r}?"
    shipped = shipped_configs()
    sibling = nearest(path.name, siblings)
    if stem not in shipped and not sibling and is_foreign_config(path):
        return "; this project only has PaddleDetection's FCOS, configured in configs/fcos and configs/semi_det"
    similar = stem if stem in shipped else nearest_name(stem, shipped) if not sibling else None
    if similar and path.parent == Path():
        return f"; did you mean {similar!r}? (ppdet config --configs lists the shipped ones)"
    return f"; did you mean {display_path(shipped[similar])!r}?" if similar else sibling
