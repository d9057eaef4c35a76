"""Checks of a merged configuration: every name exists, values have their types, nothing is missing."""

from typing import Any

from ppdet.core.compose.merge import named_component, with_name
from ppdet.core.registry import component_names, get_schema, is_component
from ppdet.core.schema import Parameter, Schema, describe, fits, list_item, literal_choices
from ppdet.core.settings import FREE_PREFIX, SETTINGS, SLOTS, Setting, setting_names
from ppdet.core.suggest.elsewhere import elsewhere
from ppdet.core.suggest.hints import answer, is_of
from ppdet.core.suggest.synonyms import synonym
from ppdet.core.tree import Node, from_plain, to_plain
from ppdet.utils.errors import IMPORT_ADVICE, ConfigError, config_error, nearest


def validate(root: Node) -> None:
    """Check everything that is set, used or not. Raises ConfigError at the first mistake."""
    architecture = root.value.get("architecture")
    if architecture is not None and architecture.value is not None and not is_component(architecture.value):
        raise _no_component(architecture.origin, "architecture", architecture.value)
    for key, node in root.value.items():
        if is_component(key):
            check_parameters(root, get_schema(key), section_of(root, key), key)
        elif key in SLOTS:
            if node.value is not None:
                check_spec(root, node, key, must_be_complete=True)
        elif key in SETTINGS:
            if SETTINGS[key].holds_components:
                check_components(root, node, key)
            else:
                check_setting(node, key, SETTINGS[key])
        elif not str(key).startswith(FREE_PREFIX):
            raise _unknown_top_level(root, node, key)


def check_components(root: Node, node: Node, key: str) -> None:
    """Check a global setting that is a list of components."""
    if not node.is_list:
        raise config_error(node.origin, key, f"expected a list of components, got {_shown(to_plain(node))}")
    for index, item in enumerate(node.value):
        check_spec(root, item, f"{key}.{index}", must_be_complete=True)


def check_setting(node: Node, key: str, setting: Setting) -> None:
    """Check one global setting, and the entries of one that is a mapping."""
    if (
        setting.names_folder
        and node.value is not None
        and not (node.is_map or node.is_list or isinstance(node.value, str))
    ):
        message = f"expected text, got {_shown(to_plain(node))}, which YAML takes for something else"
        raise config_error(node.origin, key, f"{message}: put it in quotes, or name the run with --name")
    _check_type(node, key, setting.annotation)
    if setting.minimum is not None and node.value is not None and node.value < setting.minimum:
        raise config_error(node.origin, key, f"expected at least {setting.minimum}, got {node.value}")
    if setting.names_folder and node.value is not None:
        _check_folder_name(node, key)
    if setting.is_size and node.value is not None:
        sides = to_plain(node) if node.is_list else [node.value]
        if len(sides) != (2 if node.is_list else 1) or min(sides) < 1:
            message = f"expected [height, width] or one number for both, each at least 1, got {to_plain(node)}"
            raise config_error(node.origin, key, message)
    for name, child in node.value.items() if setting.keys and node.value is not None else ():
        if name not in setting.keys:
            raise config_error(child.origin, f"{key}.{name}", f"no such setting{nearest(name, setting.keys)}")
        check_setting(child, f"{key}.{name}", setting.keys[name])


def _check_folder_name(node: Node, key: str) -> None:
    if not names_folder(node.value):
        message = f"expected the name of a folder, without slashes, a dot or dash in front, got {_shown(node.value)}"
        raise config_error(node.origin, key, message)


def names_folder(name: str) -> bool:
    """Tell whether a folder can have this name without surprises."""
    is_plain = name.isprintable() and name == name.strip() and not {"/", "\\"} & set(name)
    return is_plain and name[:1] not in ("", ".", "-") and len(name.encode()) <= 200


def section_of(root: Node, component: str) -> Node:
    """Return the top-level section of a component; an empty one if there is none."""
    node = root.value.get(component)
    if node is None or node.value is None:
        return Node({}, root.origin if node is None else node.origin)
    if not node.is_map or node.tag not in (None, component):
        raise config_error(node.origin, component, f"expected a mapping of the parameters of {component}")
    return node


def check_parameters(root: Node, schema: Schema, node: Node, key: str) -> None:
    """Check the mapping of a component's parameters that stands at the dotted `key`."""
    for name, child in node.value.items():
        parameter = schema.parameters.get(name)
        place = f"{key}.{name}"
        if parameter is None:
            known = answer(root, str(name), place)
            close = nearest(str(name), schema.parameters, cutoff=0.8 if known else 0.6)
            if known and (not close or is_of(synonym(str(name)), schema.parameters)):
                close = f"; {known}"
            hint = close or _accepted(schema)
            raise config_error(child.origin, place, f"{schema.name} has no parameter {name!r}{hint}")
        if parameter.injected:
            check_injected(root, parameter, child, place)
        else:
            _check_type(child, place, parameter.annotation)
    for parameter in schema.parameters.values():
        if parameter.shared and parameter.name not in node.value and parameter.name in root.value:
            shared = root.value[parameter.name]
            if not fits(to_plain(shared), parameter.annotation):
                raise _wrong_type(shared, parameter.name, parameter.annotation, f"{schema.name} shares it and takes")


def check_injected(root: Node, parameter: Parameter, node: Node, key: str) -> None:
    """Check the value of an __inject__ parameter: a component in any spelling, a list of them, or null."""
    if node.value is None:
        if not parameter.accepts_none:
            raise config_error(node.origin, key, "expected a component, got null")
    elif node.is_list:
        if not parameter.accepts_list:
            raise config_error(node.origin, key, "expected one component, got a list")
        for index, item in enumerate(node.value):
            check_spec(root, item, f"{key}.{index}", must_be_complete=True)
    elif not parameter.accepts_single:
        raise config_error(node.origin, key, f"expected a list of components, got {_shown(to_plain(node))}")
    elif node.is_map or isinstance(node.value, (str, bool, int, float)):
        check_spec(root, node, key, default=parameter.default)


def check_spec(root: Node, node: Node, key: str, *, default: Any = None, must_be_complete: bool = False) -> None:
    """Check one value that names a component, and its overrides.

    `default` is what the parameter has when nothing sets it: it names the component for a mapping that does
    not. `must_be_complete` says that nothing but this configuration gives the component what it requires.
    """
    name, overrides = parse_spec(node, key, default)
    schema = get_schema(name)
    check_parameters(root, schema, overrides, key)
    if must_be_complete and not schema.has_from_config:
        given = {**section_of(root, name).value, **overrides.value}
        for parameter in schema.parameters.values():
            is_set = parameter.name in given or (parameter.shared and parameter.name in root.value)
            if parameter.required and not is_set:
                raise missing_value(node.origin, f"{key}.{parameter.name}", schema, parameter)


def parse_spec(node: Node, key: str, default: Any = None) -> tuple[str, Node]:
    """Return the component that a value names, and the mapping of its overrides.

    Spellings: "Name", {name: Name, **overrides}, !Name {...}, {Name: {...} or null}; and a mapping without a
    name over a `default` that has one. Raises ConfigError for anything else.
    """
    if node.tag is not None and "name" in node.value:
        raise config_error(node.value["name"].origin, f"{key}.name", f"!{node.tag} already names the component")
    if named_component(node) is None and node.is_map and "name" not in node.value:
        base = named_component(from_plain(default, "default"))
        if base is not None and not _looks_like_component(node, get_schema(base)):
            return base, node
        if not _looks_like_component(node):
            raise config_error(node.origin, key, "expected a component: add `name: ...` to this mapping")
        raise _no_component(node.origin, key, next(iter(node.value)))
    named = with_name(node)
    name = named.value["name"].value if named.is_map else named.value
    if not is_component(name):
        if node.is_map and "name" in node.value:
            raise _no_component(node.value["name"].origin, f"{key}.name", name)
        raise _no_component(node.origin, key, name)
    return name, Node({word: child for word, child in named.value.items() if word != "name"}, node.origin)


def missing_value(origin: str, key: str, schema: Schema, parameter: Parameter) -> ConfigError:
    """Return the error for a required parameter that nothing gives a value."""
    expected = "a component" if parameter.injected else describe(parameter.annotation)
    return config_error(origin, key, f"missing, {schema.name} needs it ({expected})")


def _check_type(node: Node, key: str, annotation: Any) -> None:
    tagged = _find_tag(node)
    if tagged is not None:
        message = f"!{tagged.tag} stands where no component is taken: expected {describe(annotation)}"
        raise config_error(tagged.origin, key, message)
    if fits(to_plain(node), annotation):
        return
    item_type = list_item(annotation)
    if node.is_list and item_type is not None:
        for index, item in enumerate(node.value):
            _check_type(item, f"{key}.{index}", item_type)
    raise _wrong_type(node, key, annotation, "expected")


def _wrong_type(node: Node, key: str, annotation: Any, verb: str) -> ConfigError:
    value = to_plain(node)
    hint = nearest(value, literal_choices(annotation)) if isinstance(value, str) else ""
    return config_error(node.origin, key, f"{verb} {describe(annotation)}, got {_shown(value)}{hint}")


def _find_tag(node: Node) -> Node | None:
    if node.tag is not None:
        return node
    children = node.value.values() if node.is_map else node.value if node.is_list else ()
    return next((found for found in map(_find_tag, children) if found is not None), None)


def _shown(value: Any) -> str:
    kinds = {bool: "true/false", int: "int", float: "float", str: "text", list: "list", dict: "mapping"}
    if value is None:
        return "null"
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({kinds.get(type(value), type(value).__name__)})"


def _no_component(origin: str, key: str, name: Any) -> ConfigError:
    if not isinstance(name, str):
        return config_error(origin, key, f"expected the name of a component, got {_shown(name)}")
    known = elsewhere(name) or f"there is no component {name!r}{nearest(name, component_names())}"
    return config_error(origin, key, known + IMPORT_ADVICE)


def _looks_like_component(node: Node, schema: Schema | None = None) -> bool:
    """Tell {FCOSLos: {...}}, a misspelt component, from overrides (of one with `schema`) that name none."""
    key = next(iter(node.value), None)
    if len(node.value) != 1 or (schema is not None and key in schema.parameters):
        return False
    return node.value[key].is_map or node.value[key].value is None


def _accepted(schema: Schema) -> str:
    return f"; it takes {', '.join(schema.parameters) or 'none'}"


def _unknown_top_level(root: Node, node: Node, key: Any) -> ConfigError:
    dotted, below = str(key), node
    while below.is_map and len(below.value) == 1:
        name, below = next(iter(below.value.items()))
        dotted = f"{dotted}.{name}"
    known, ours = elsewhere(key), answer(root, dotted, dotted) or answer(root, str(key), dotted)
    if known:
        return config_error(node.origin, str(key), known + IMPORT_ADVICE)
    if ours:
        return config_error(node.origin, dotted, ours)
    hint = nearest(str(key), [*component_names(), *setting_names()])
    hint = hint or f"; names of your own start with {FREE_PREFIX}"
    hint += IMPORT_ADVICE if node.is_map and str(key)[:1].isupper() else ""
    return config_error(node.origin, str(key), f"neither a component nor a global setting{hint}")
