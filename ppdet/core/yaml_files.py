"""Reading configuration files: a YAML file, its bases, and helpful errors for files that cannot be read."""

from collections.abc import Sequence
from pathlib import Path

from ppdet.core.compose.merge import merge_root
from ppdet.core.shipped_configs import find_config, shipped_configs
from ppdet.core.suggest.paddledetection import is_foreign_config
from ppdet.core.tree import Node, on_layer, parse
from ppdet.utils.disk.files import NUL_ADVICE, display_path, read_text
from ppdet.utils.errors import config_error, nearest, nearest_name

BASE_KEY = "_BASE_"


def read_files(path: Path) -> tuple[Node, list[Node]]:
    """Read a YAML file and the bases that it names.

    Returns:
        All files merged, and what each file sets: first the bases in the order in which they are merged, then the file.
    """
    layers: list[Node] = []
    return _read_file(path, (), layers), layers


def _read_file(path: Path, parents: tuple[Path, ...], layers: list[Node], included_at: str | None = None) -> Node:
    """Read a file and its bases, and append what each of them sets to `layers`.

    Args:
        parents: files that include this one, outermost first.
        included_at: place of the `_BASE_` entry that names the file, such as "fcos.yml:1".
    """
    shown = display_path(path)
    real = path.resolve()
    if real in parents:
        circle = " -> ".join(display_path(file) for file in (*parents[parents.index(real) :], real))
        raise config_error(included_at or shown, BASE_KEY, f"the files include each other: {circle}")
    root = parse(_read_text(path, included_at), shown)
    if root.value is None:
        root = Node({}, f"{shown}:1")
    if not root.is_map or root.tag is not None:
        raise config_error(root.origin, "", "expected a mapping of sections and settings")
    items = dict(root.value)
    merged = Node({}, root.origin)
    for base in _base_nodes(items.pop(BASE_KEY, None)):
        file = find_config(base.value, path.parent)
        merged = merge_root(merged, _read_file(file, (*parents, real), layers, base.origin))
    layers.append(on_layer(Node(items, root.origin), len(layers) + 1))
    return merge_root(merged, layers[-1])


def _base_nodes(bases: Node | None) -> Sequence[Node]:
    """Return the paths in the value of `_BASE_`."""
    if bases is None or bases.value is None:
        return []
    nodes: list[Node] = bases.value if bases.is_list else [bases]
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
        raise config_error(place, key, f"no such file{shown}{_similar_file(path)}") from None
    except UnicodeDecodeError:
        raise config_error(place, key, f"file{shown} is not UTF-8 text: save it as UTF-8") from None
    except OSError as error:
        hint = _files_in_folder(path) if path.is_dir() else ""
        raise config_error(place, key, f"cannot read file{shown}: {error.strerror}{hint}") from None
    if "\0" in text:
        raise config_error(place, key, f"file{shown} {NUL_ADVICE}")
    return text


def _files_in_folder(folder: Path) -> str:
    """Return a hint with the YAML files in a folder that was given instead of a file; "" if it has none."""
    files = sorted(folder.glob("*.y*ml"))
    if len(files) == 1:
        return f"; did you mean {display_path(files[0])!r}?"
    names = ", ".join(file.name for file in files[:5]) + (", …" if len(files) > 5 else "")
    return f"; it contains {names}" if files else ""


def _similar_file(path: Path) -> str:
    """Return "; did you mean PATH?" for a missing file: one in the same folder, or a similar name in configs/."""
    siblings = [file.name for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
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
