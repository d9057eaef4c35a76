"""Checks of a merged configuration: all names exist, values have the right types, no required value is missing."""

import math
from typing import Any

from ppdet.core.compose.spelling import read_component, unknown_component
from ppdet.core.registry import component_names, get_schema, is_component
from ppdet.core.schema import (
    Parameter,
    Schema,
    first_sentence,
    fits,
    list_item,
    literal_choices,
    type_in_words,
    value_in_words,
)
from ppdet.core.setting_schema import Setting
from ppdet.core.settings import FREE_PREFIX, SETTINGS, SLOTS, setting_names
from ppdet.core.suggest.hints import translate, translates_to
from ppdet.core.suggest.paddledetection import describe_foreign_component
from ppdet.core.suggest.synonyms import synonym
from ppdet.core.tree import Node, children, to_plain
from ppdet.utils.errors import IMPORT_ADVICE, ConfigError, config_error, nearest, nearest_name
from ppdet.utils.ranges import MAX_PIXELS, require_length

# Components of a list. Lists of components with lists of components multiply when they are built.
MAX_LISTED = 100


def validate(root: Node) -> None:
    """Check everything that is set, including settings that no run uses. Raises ConfigError for the first mistake."""
    architecture = root.value.get("architecture")
    if architecture is not None and architecture.value is not None and not is_component(architecture.value):
        raise unknown_component(architecture.origin, "architecture", architecture.value)
    for key, node in root.value.items():
        if is_component(key):
            check_parameters(root, get_schema(key), section_of(root, key), key)
        elif key in SLOTS:
            if node.value is not None:
                check_component(root, node, key, must_be_complete=True)
        elif key in SETTINGS:
            if SETTINGS[key].holds_components:
                check_components(root, node, key)
            else:
                check_setting(node, key, SETTINGS[key])
        elif not str(key).startswith(FREE_PREFIX):
            raise _unknown_top_level(root, node, key)


def check_components(root: Node, node: Node, key: str) -> None:
    """Check a list of components, which need no values besides the configuration."""
    if not node.is_list:
        raise config_error(node.origin, key, f"expected a list of components, got {value_in_words(to_plain(node))}")
    if len(node.value) > MAX_LISTED:
        raise config_error(node.origin, key, f"expected at most {MAX_LISTED} components, got {len(node.value)}")
    for index, item in enumerate(node.value):
        check_component(root, item, f"{key}.{index}", must_be_complete=True)


def check_setting(node: Node, key: str, setting: Setting) -> None:
    """Check the value of a global setting, and the entries of one that is a mapping."""
    if setting.names_folder and not (node.value is None or node.is_map or node.is_list or isinstance(node.value, str)):
        message = f"expected text, got {value_in_words(to_plain(node))}, because YAML does not read this as text"
        raise config_error(node.origin, key, f"{message}: put it in quotes, or name the run with --name")
    _check_type(node, key, setting.annotation, setting.meaning)
    if node.value is None:
        return
    if not setting.keys:
        _check_finite(node, key)
    is_number = not isinstance(node.value, str)  # a setting may be a number or a word, such as auto
    if is_number and setting.minimum is not None and node.value < setting.minimum:
        raise config_error(node.origin, key, f"expected at least {setting.minimum}, got {node.value}")
    if setting.maximum is not None and node.value > setting.maximum:
        raise config_error(node.origin, key, f"expected at most {setting.maximum:,}, got {node.value}")
    if setting.is_length:
        _check_length(node, key, setting)
    if setting.names_folder and not names_folder(node.value):
        expected = "the name of a folder, without slashes, and without a dot or dash in front"
        raise config_error(node.origin, key, f"expected {expected}, got {value_in_words(node.value)}")
    if setting.is_size:
        sides = to_plain(node) if node.is_list else [node.value]
        if len(sides) != (2 if node.is_list else 1) or min(sides) < 1:
            message = f"expected [height, width] or one number for both, each at least 1, got {to_plain(node)}"
            raise config_error(node.origin, key, message)
        if sides[0] * sides[-1] > MAX_PIXELS:
            raise config_error(node.origin, key, f"expected at most {MAX_PIXELS:,} pixels, got {to_plain(node)}")
    keys = setting.keys or {}
    for name, child in node.value.items() if keys else ():
        if name not in keys:
            raise config_error(child.origin, f"{key}.{name}", f"no such setting{nearest(name, keys)}")
        check_setting(child, f"{key}.{name}", keys[name])


def names_folder(name: str) -> bool:
    """Tell whether a folder can have this name on every system and needs no quoting in a shell."""
    is_plain = name.isprintable() and name == name.strip() and not {"/", "\\"} & set(name)
    return is_plain and name[:1] not in ("", ".", "-") and len(name.encode()) <= 200


def section_of(root: Node, component: str) -> Node:
    """Return the top-level section of a component; an empty mapping if the configuration has no such section."""
    node = root.value.get(component)
    if node is None or node.value is None:
        return Node({}, root.origin if node is None else node.origin)
    if not node.is_map or node.tag not in (None, component):
        raise config_error(node.origin, component, f"expected a mapping of the parameters of {component}")
    return node


def check_parameters(root: Node, schema: Schema, node: Node, key: str) -> None:
    """Check a mapping of parameters of a component, which stands at the dotted `key`."""
    without_effect = schema.without_effect
    for name, child in node.value.items():
        if name in without_effect:  # check_effect reports it
            continue
        parameter = schema.parameters.get(name)
        place = f"{key}.{name}"
        if parameter is None:
            raise config_error(child.origin, place, _unknown_parameter(root, schema, name, place))
        if parameter.injected:
            check_injected(root, parameter, child, place)
        else:
            _check_type(child, place, parameter.annotation, parameter.meaning)
            # Components from outside may give infinity a meaning.
            if schema.cls.__module__.startswith("ppdet."):
                _check_finite(child, place)
    for parameter in schema.parameters.values():
        if parameter.shared and parameter.name not in node.value and parameter.name in root.value:
            shared = root.value[parameter.name]
            if not fits(to_plain(shared), parameter.annotation):
                raise _wrong_type(shared, parameter.name, parameter.annotation, f"{schema.name} shares it and takes")


def check_injected(root: Node, parameter: Parameter, node: Node, key: str) -> None:
    """Check the value of a parameter in `__inject__`: a component in any spelling, a list of components, or null."""
    if node.value is None:
        if not parameter.accepts_none:
            raise config_error(node.origin, key, "expected a component, got null")
    elif node.is_list:
        if not parameter.accepts_list:
            raise config_error(node.origin, key, "expected one component, got a list")
        check_components(root, node, key)
    elif not parameter.accepts_single:
        raise config_error(node.origin, key, f"expected a list of components, got {value_in_words(to_plain(node))}")
    elif node.is_map or isinstance(node.value, (str, bool, int, float)):  # anything else is an object from Python
        check_component(root, node, key, default=parameter.default)


def check_component(root: Node, node: Node, key: str, *, default: Any = None, must_be_complete: bool = False) -> None:
    """Check a value that names a component, and the overrides in it.

    Args:
        default: default of the parameter that has this value; it names the component for a mapping without a name.
        must_be_complete: only the configuration supplies the component's required parameters, no `from_config`.
    """
    name, overrides = read_component(node, key, default)
    schema = get_schema(name)
    check_parameters(root, schema, overrides, key)
    if must_be_complete and schema.from_config is None:
        given = {**section_of(root, name).value, **overrides.value}
        for parameter in schema.parameters.values():
            is_set = parameter.given or parameter.name in given or (parameter.shared and parameter.name in root.value)
            if parameter.required and not is_set:
                raise missing_value(node.origin, f"{key}.{parameter.name}", schema, parameter)


def missing_value(origin: str, key: str, schema: Schema, parameter: Parameter) -> ConfigError:
    """Make the error for a required parameter that has no value."""
    expected = "a component" if parameter.injected else type_in_words(parameter.annotation)
    message = f"missing, {schema.name} needs it ({expected})"
    return config_error(origin, key, message + _with_meaning(parameter.meaning))


def _unknown_parameter(root: Node, schema: Schema, name: Any, key: str) -> str:
    """Say that a component has no parameter of this name, and which one may be meant."""
    word = str(name)
    translated = translate(root, word, key)
    similar = nearest_name(word, schema.parameters, cutoff=0.8 if translated else 0.6)
    if translated and (similar is None or translates_to(synonym(word), schema.parameters)):
        hint = translated
    elif similar is not None:
        meaning = first_sentence(schema.parameters[similar].meaning)
        hint = f"did you mean {similar!r}?" + (f" ({meaning})" if meaning else "")
    else:
        hint = f"it takes {', '.join(schema.parameters) or 'none'}"
    return f"{schema.name} has no parameter {name!r}; {hint}"


def _check_type(node: Node, key: str, annotation: Any, meaning: str = "") -> None:
    tagged = _find_tag(node)
    if tagged is not None:
        message = f"!{tagged.tag} names a component, which is not allowed here: expected {type_in_words(annotation)}"
        raise config_error(tagged.origin, key, message)
    if fits(to_plain(node), annotation):
        return
    item_type = list_item(annotation)
    if node.is_list and item_type is not None:
        for index, item in enumerate(node.value):
            _check_type(item, f"{key}.{index}", item_type, meaning)
    raise _wrong_type(node, key, annotation, "expected", meaning)


def _check_length(node: Node, key: str, setting: Setting) -> None:
    """Raise ConfigError unless a value is a number of steps or a share of the run."""
    try:
        require_length(key, node.value)
    except ValueError:
        message = f"expected {setting.expected}, got {value_in_words(node.value)}"
        raise config_error(node.origin, key, message) from None


def _check_finite(node: Node, key: str) -> None:
    """Raise ConfigError for infinity or NaN, in a value or anywhere in it."""
    for name, child in node.value.items() if node.is_map else enumerate(children(node)):
        _check_finite(child, f"{key}.{name}")
    if isinstance(node.value, float) and not math.isfinite(node.value):
        raise config_error(node.origin, key, f"expected a finite number, got {node.value}")


def _wrong_type(node: Node, key: str, annotation: Any, verb: str, meaning: str = "") -> ConfigError:
    value = to_plain(node)
    hint = nearest(value, literal_choices(annotation)) if isinstance(value, str) else ""
    message = f"{verb} {type_in_words(annotation)}, got {value_in_words(value)}{hint}"
    return config_error(node.origin, key, message + _with_meaning(meaning))


def _with_meaning(text: str) -> str:
    return f"; meaning: {first_sentence(text)}" if text else ""


def _find_tag(node: Node) -> Node | None:
    """Return the first node with a tag, in a value and everything in it; None if no node has one."""
    if node.tag is not None:
        return node
    return next((tagged for tagged in map(_find_tag, children(node)) if tagged is not None), None)


def _unknown_top_level(root: Node, node: Node, key: Any) -> ConfigError:
    """Make the error for a top-level key that is neither a component nor a global setting."""
    foreign = describe_foreign_component(key)
    if foreign:
        return config_error(node.origin, str(key), foreign + IMPORT_ADVICE)
    dotted, below = str(key), node
    while below.is_map and len(below.value) == 1:
        name, below = next(iter(below.value.items()))
        dotted = f"{dotted}.{name}"
    translated = translate(root, dotted, dotted) or translate(root, str(key), dotted)
    if translated:
        return config_error(node.origin, dotted, translated)
    hint = nearest(str(key), [*component_names(), *setting_names()])
    hint = hint or f"; names of your own start with {FREE_PREFIX}"
    hint += IMPORT_ADVICE if node.is_map and str(key)[:1].isupper() else ""
    return config_error(node.origin, str(key), f"neither a component nor a global setting{hint}")
