"""Merging one configuration over another: files over their bases, -o over files.

Mappings merge key by key at every depth; lists and scalars replace what was there. A mapping that names another
component than the one below it (`name: X`, `!X`, `X: {...}`) replaces it completely, because the parameters of the
old component mean nothing to the new one.
"""

from collections.abc import Iterable
from typing import Any

from ppdet.core.compose.spelling import named_component, with_name
from ppdet.core.registry import get_schema, is_component
from ppdet.core.tree import Node, as_index, from_plain
from ppdet.core.yaml_graph import MAX_DEPTH, TOO_DEEP
from ppdet.utils.errors import config_error


def merge(base: Node, new: Node) -> Node:
    """Return `new` merged over `base`. Neither is changed."""
    if not new.is_map:
        return new
    base_name, new_name = named_component(base), named_component(new)
    if new_name is not None and new_name != base_name:
        return new
    if base_name is not None:
        base, new = with_name(base), with_name(new)
    if not base.is_map:
        return new
    return new.holding(_merge_items(base.value, new.value))


def merge_root(base: Node, new: Node) -> Node:
    """Merge two whole files. An empty section of a component (`ResNet:`) leaves the base's section unchanged."""
    items = {
        key: child
        for key, child in new.value.items()
        if not (child.value is None and is_component(key) and key in base.value)
    }
    return Node(_merge_items(base.value, items), new.origin)


def _merge_items(base: dict[Any, Node], new: dict[Any, Node]) -> dict[Any, Node]:
    merged = dict(base)
    for key, child in new.items():
        merged[key] = merge(merged[key], child) if key in merged else child
    return merged


def in_order(overrides: Iterable[tuple[str, Node]]) -> list[tuple[str, Node]]:
    """Return overrides, (dotted key, value), in the order in which they are put in: what holds a value comes before it.

    In `X.nms.sigma=0.3 X.nms.name=SoftNMS`, the name would otherwise replace the component together with the parameter
    that was set for it. Overrides of the same key, which may name a component's own level or not, stay in their order,
    so that the last one counts.
    """

    def depth(item: tuple[str, Node]) -> int:
        steps = item[0].removesuffix(".name").split(".")
        return len(steps) - sum(map(is_component, steps[1:-1]))

    return sorted(overrides, key=depth)


def override(root: Node, key: str, value: Node) -> Node:
    """Return `root` with `value` merged in at a dotted key. Whole numbers in the key are list indices.

    - A step into a value that only names a component (`fcos_loss: FCOSLoss`) turns it into a mapping with that name.
    - The component's own level in `- Resize: {...}` may be written or left out.
    - `X.name=Other` replaces all of X, as a file with `X: {name: Other}` does, but for what is set on the same layer.
    - A step into a list that no file sets starts from the default value of its parameter.
    """
    steps = key.split(".")
    if len(steps) > MAX_DEPTH:
        raise config_error(value.origin, f"{key:.60}…", TOO_DEEP)
    if not all(steps):
        raise config_error(value.origin, key, "expected words and list indices joined by dots, such as ResNet.depth")
    new = _put(root, root.value.get(steps[0]), steps, 1, value)
    return Node({**root.value, steps[0]: new}, root.origin)


def _put(root: Node, node: Node | None, steps: list[str], depth: int, value: Node) -> Node:
    """Return `node`, the value at steps[:depth] (None if nothing sets it), with `value` put in at steps[depth:]."""
    if depth == len(steps):
        return value if node is None else merge(node, value)
    step, origin = steps[depth], value.origin
    if node is not None and node.is_list:
        index = _index(node, steps, depth, origin)
        items = list(node.value)
        items[index] = _put(root, items[index], steps, depth + 1, value)
        return node.holding(items)
    is_section = depth == 1 and is_component(steps[0])
    component = steps[0] if is_section else named_component(node) if node is not None else None
    if node is not None and component is not None and not is_section:
        node = with_name(node)
        if step == component:
            return _put(root, node, steps, depth + 1, value)
    if node is None or node.value is None:
        node = Node({}, origin, None, value.layer)
    if not node.is_map:
        above = ".".join(steps[:depth])
        raise config_error(
            origin, ".".join(steps), f"{above} is {node.value!r} ({node.origin}) and has no parameters or items"
        )
    if step == "name" and depth + 1 == len(steps) and component is not None and component != value.value:
        # What is set together with the name, as in `X.nms={sigma: 0.3} X.nms.name=SoftNMS`, is meant for the new one.
        together = {key: child for key, child in node.value.items() if child.layer == value.layer}
        return Node({**together, "name": value}, origin)
    number = as_index(step)
    key = number if step not in node.value and number in node.value else step
    child = node.value.get(key)
    if child is None and depth + 1 < len(steps) and component is not None:
        child = _value_below(root, component, step, is_section)
    return Node({**node.value, key: _put(root, child, steps, depth + 1, value)}, node.origin, node.tag, node.layer)


def _index(node: Node, steps: list[str], depth: int, origin: str) -> int:
    step, size = steps[depth], len(node.value)
    place = as_index(step)
    if place is None or place >= size:
        names = [named_component(item) or "" for item in node.value]
        items = f" ({', '.join(f'{index}: {name}' for index, name in enumerate(names))})" if all(names) else ""
        valid = f"an index from 0 to {size - 1}{items}" if size else "no index, because it is empty"
        message = f"{'.'.join(steps[:depth])} is a list: expected {valid}, got {step!r}"
        raise config_error(origin, ".".join(steps), message)
    return place


def _value_below(root: Node, component: str, name: str, is_section: bool) -> Node | None:
    """Return the value that a parameter has without the override: from the component's section, or its default."""
    section = root.value.get(component)
    if not is_section and section is not None and section.is_map and name in section.value:
        return section.value[name]
    parameter = get_schema(component).parameters.get(name)
    if parameter is None or parameter.required or parameter.default is None:
        return None
    return from_plain(parameter.default, "default")
