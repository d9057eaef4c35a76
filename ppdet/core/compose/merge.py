"""Putting one configuration over another: files over their bases, -o over files.

Mappings merge key by key at every depth, lists and scalars replace. A mapping that names another component
than the one below it (`name: X`, `!X`, `X: {...}`) replaces it whole: the old component's parameters mean
nothing to the new one.
"""

from ppdet.core.registry import get_schema, is_component
from ppdet.core.schema import REQUIRED
from ppdet.core.tree import Node, from_plain
from ppdet.utils.errors import config_error


def named_component(node: Node) -> str | None:
    """Return the component that a value names, in any of the spellings; None if it names none."""
    if node.tag is not None:
        return node.tag
    if node.is_map:
        if "name" in node.value:
            name = node.value["name"].value
            return name if isinstance(name, str) else None
        only = next(iter(node.value)) if len(node.value) == 1 else None
        return only if is_component(only) and _holds_parameters(node.value[only]) else None
    return node.value if is_component(node.value) else None


def with_name(node: Node) -> Node:
    """Rewrite a value that names a component as {name: X, **parameters}; leave others alone."""
    name = named_component(node)
    if name is None or (node.is_map and "name" in node.value and node.tag is None):
        return node
    if node.is_map and node.tag is None:
        node = node.value[name] if node.value[name].is_map else Node({}, node.origin, None, node.layer)
    parameters = node.value if node.is_map else {}
    return Node({**parameters, "name": Node(name, node.origin, None, node.layer)}, node.origin, None, node.layer)


def merge(base: Node, new: Node) -> Node:
    """Return `new` over `base`. Neither is changed."""
    if not new.is_map:
        return new
    base_name, new_name = named_component(base), named_component(new)
    if new_name is not None and new_name != base_name:
        return new
    if base_name is not None:
        base, new = with_name(base), with_name(new)
    if not base.is_map:
        return new
    return Node(_merge_items(base.value, new.value), new.origin, None, new.layer)


def merge_root(base: Node, new: Node) -> Node:
    """Merge two whole files. A component's section that is left empty takes nothing away from its base."""
    items = {
        key: child
        for key, child in new.value.items()
        if not (child.value is None and is_component(key) and key in base.value)
    }
    return Node(_merge_items(base.value, items), new.origin)


def _merge_items(base: dict, new: dict) -> dict:
    merged = dict(base)
    for key, child in new.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return merged


def override(root: Node, key: str, value: Node) -> Node:
    """Return `root` with `value` merged in at the dotted `key`; whole numbers in the key index lists.

    A step into a value that only names a component (`fcos_loss: FCOSLoss`) makes it a mapping with that name.
    The component's own level in `- Resize: {...}` may be written or left out. `X.name=Other` replaces all of
    X, as a file with `X: {name: Other}` does. A step into a list that no file sets starts from the default of
    its component.
    """
    steps = key.split(".")
    if not all(steps):
        raise config_error(value.origin, key, "expected words and list indices joined by dots, such as ResNet.depth")
    new = _put(root, root.value.get(steps[0]), steps, 1, value)
    return Node({**root.value, steps[0]: new}, root.origin)


def _put(root: Node, node: Node | None, steps: list[str], depth: int, value: Node) -> Node:
    """Return `node` (None: nothing there yet) with `value` at steps[depth:] under it."""
    if depth == len(steps):
        return value if node is None else merge(node, value)
    step, origin = steps[depth], value.origin
    if node is not None and node.is_list:
        index = _index(node, steps, depth, origin)
        items = list(node.value)
        items[index] = _put(root, items[index], steps, depth + 1, value)
        return Node(items, node.origin, None, node.layer)
    section = depth == 1 and is_component(steps[0])
    name = steps[0] if section else (named_component(node) if node is not None else None)
    if name is not None and not section:
        node = with_name(node)
        if step == name:
            return _put(root, node, steps, depth + 1, value)
    if node is None or node.value is None:
        node = Node({}, origin, None, value.layer)
    if not node.is_map:
        below = ".".join(steps[:depth])
        raise config_error(origin, ".".join(steps), f"{below} is {node.value!r} ({node.origin}), nothing is below it")
    if step == "name" and depth + 1 == len(steps) and name is not None and name != value.value:
        return Node({"name": value}, origin)
    key = int(step) if step not in node.value and step.isdigit() and int(step) in node.value else step
    child = node.value.get(key)
    if child is None and depth + 1 < len(steps):
        child = _inherited(root, name, step, section)
    return Node({**node.value, key: _put(root, child, steps, depth + 1, value)}, node.origin, node.tag, node.layer)


def _index(node: Node, steps: list[str], depth: int, origin: str) -> int:
    step, size = steps[depth], len(node.value)
    if not (step.isdigit() and int(step) < size):
        below = ".".join(steps[:depth])
        names = [named_component(item) for item in node.value]
        items = f" ({', '.join(f'{index}: {name}' for index, name in enumerate(names))})" if all(names) else ""
        valid = f"an index from 0 to {size - 1}{items}" if size else "no index, it is empty"
        raise config_error(origin, ".".join(steps), f"{below} is a list: expected {valid}, got {step!r}")
    return int(step)


def _inherited(root: Node, component: str | None, parameter: str, is_section: bool) -> Node | None:
    """Return what `parameter` has before this override: from the component's section, else its default."""
    if not is_component(component):
        return None
    section = root.value.get(component)
    if not is_section and section is not None and section.is_map and parameter in section.value:
        return section.value[parameter]
    known = get_schema(component).parameters.get(parameter)
    if known is None or known.default is REQUIRED or known.default is None:
        return None
    return from_plain(known.default, "default")


def _holds_parameters(node: Node) -> bool:
    return node.is_map or node.value is None
