"""The reference of all settings and components, generated from the code: docs/REFERENCE.md and `ppdet config --list`.

The meaning of a parameter is its text under `Args:` in the docstring of the component's class or constructor, or of a
base class. `python -m ppdet.core.reference` writes the page; with `--check` it only tells whether the page is up to
date. A component or parameter without a meaning is an error.
"""

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ppdet.core.registry import KINDS, OTHER_KIND, component_names, components_of, get_schema, is_component
from ppdet.core.schema import LISTS, Parameter, Schema, first_sentence, fits, type_in_words
from ppdet.core.setting_schema import Setting
from ppdet.core.settings import SETTINGS, SLOTS, setting_names
from ppdet.core.tree import render_inline
from ppdet.core.workspace import import_components
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import IMPORT_ADVICE, ConfigError, nearest

# Packages whose components the page lists; the acceptance kit registers a hook of its own.
DOCUMENTED = ("ppdet.data.", "ppdet.modeling.", "ppdet.optimizer.", "ppdet.metrics.", "ppdet.engine.")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "REFERENCE.md"
COMMAND = "python -m ppdet.core.reference"
HEAD = f"""<!-- Written by `{COMMAND}` from the constructors and their docstrings: change these, and run it again. -->

# Reference

Every global setting and every component that a configuration can name, with all parameters. `ppdet config --list`
lists them in the terminal, with components of your own that `--import` adds; `ppdet config --list NAME` prints one of
them. [CONFIG.md](CONFIG.md) explains the language of the files.
"""
UNUSED_HEAD = """
## Without effect

PaddleDetection's files may set these. They change nothing here: a file that sets one gets a warning, and `-o`,
`load_config` and `merge_config` refuse it.

| setting or parameter | why it changes nothing |
|---|---|"""
NOT_SET = "not set"  # the default of a setting that has no value until it is set
Row = tuple[str, str, str, str]  # name, type, default, meaning


def page() -> str:
    """Return the text of docs/REFERENCE.md.

    Raises:
        ConfigError: a component or a parameter has no meaning.
    """
    lines = [HEAD, "## Global settings", "", *_table("setting", _setting_rows())]
    unused = [(name, setting.unused) for name, setting in SETTINGS.items() if setting.unused]
    for kind in [*KINDS, OTHER_KIND]:
        schemas = [schema for schema in components_of(kind) if schema.cls.__module__.startswith(DOCUMENTED)]
        lines += ["", f"## {kind[0].upper()}{kind[1:]}"] if schemas else []
        for schema in schemas:
            lines += ["", f"### {schema.name}", "", f"{_checked(schema)}."]
            rows = list(_parameter_rows(schema))
            lines += ["", *_table("parameter", rows)] if rows else []
            unused += [(f"{schema.name}.{name}", reason) for name, reason in schema.unused.items()]
    lines += [UNUSED_HEAD, *(f"| `{name}` | {_cell(reason)} |" for name, reason in unused)]
    return "\n".join(lines) + "\n"


def print_list(name: str | None = None) -> None:
    """Print the settings and components, one line each; or one of them with its parameters.

    Args:
        name: a component, a global setting, or None for all of them.

    Raises:
        ConfigError: there is no such name; the message has the nearest one.
    """
    import_components()
    if name is None:
        _print_rows("Global settings", [(name, meaning) for name, _, _, meaning in _setting_rows() if "." not in name])
        for kind in [*KINDS, OTHER_KIND]:
            _print_rows(
                f"{kind[0].upper()}{kind[1:]}", [(schema.name, schema.summary) for schema in components_of(kind)]
            )
        print("ppdet config --list NAME shows the type, the default and the whole meaning.")
    elif is_component(name):
        schema = get_schema(name)
        print(f"{name}: {schema.summary}")
        _print_parameters(_parameter_rows(schema))
        for parameter, reason in schema.unused.items():
            print(f"  {parameter} changes nothing: {reason}")
    elif name in SETTINGS and SETTINGS[name].unused:
        print(f"{name} changes nothing: {SETTINGS[name].unused}")
    elif name in SETTINGS or name in SLOTS:
        _print_parameters(row for row in _setting_rows() if row[0] == name or row[0].startswith(f"{name}."))
    else:
        hint = nearest(name, [*component_names(), *setting_names()])
        raise ConfigError(f"{name}: neither a component nor a global setting{hint}{IMPORT_ADVICE}")


def _print_rows(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and the first sentences of their meanings below a title; nothing without rows."""
    if rows:
        width = max(len(name) for name, _ in rows)
        print(title)
        for name, meaning in rows:
            print(f"  {name:<{width}}  {first_sentence(meaning)}")
        print()


def _print_parameters(rows: "Iterator[Row] | Sequence[Row]") -> None:
    for name, kind, default, meaning in rows:
        print(
            f"  {name}: {kind}; {f'default: {default}' if default else 'required'}\n      {meaning or '(no meaning)'}"
        )


def _setting_rows() -> list[Row]:
    """Return the rows of all global settings and slots that have an effect, entries of mappings included."""
    used = {name: setting for name, setting in SETTINGS.items() if not setting.unused}
    slots = [(name, "data set", "null", f"{meaning}.") for name, meaning in SLOTS.items()]
    return [*_rows_of_settings(used, ""), *slots]


def _rows_of_settings(settings: Mapping[str, Setting], prefix: str) -> Iterator[Row]:
    for name, setting in settings.items():
        default = render_inline(setting.default) if fits(setting.default, setting.annotation) else NOT_SET
        kind = "list of components" if setting.holds_components else type_in_words(setting.annotation)
        if setting.keys:
            kind = "mapping or null" if setting.default is None else "mapping"
        yield f"{prefix}{name}", kind, default, f"{setting.meaning.removesuffix('.')}."
        yield from _rows_of_settings(setting.keys or {}, f"{prefix}{name}.")


def _parameter_rows(schema: Schema) -> Iterator[Row]:
    for parameter in schema.parameters.values():
        if parameter.given:
            continue
        yield parameter.name, _type_of(parameter), _default_of(parameter), _meaning_of(parameter)


def _type_of(parameter: Parameter) -> str:
    if not parameter.injected:
        return type_in_words(parameter.annotation)
    kinds = ["component"] if parameter.accepts_single else []
    kinds += ["list of components"] if parameter.accepts_list else []
    kinds += ["null"] if parameter.accepts_none else []
    return " or ".join(kinds)


def _default_of(parameter: Parameter) -> str:
    """Return the default as YAML, "" for a required parameter."""
    if parameter.required:
        return ""
    default: Any = parameter.default
    return render_inline(list(default) if isinstance(default, LISTS[:2]) else default)


def _meaning_of(parameter: Parameter) -> str:
    """Return a parameter's meaning; for a shared one without its own text, the global setting's."""
    if parameter.shared and parameter.name in SETTINGS:
        return parameter.meaning or f"the global setting `{parameter.name}`: {SETTINGS[parameter.name].meaning}."
    return parameter.meaning


def _checked(schema: Schema) -> str:
    """Return the summary of a component. Raises ConfigError if it, or the meaning of a parameter, is missing."""
    module = schema.cls.__module__
    if not schema.summary:
        raise ConfigError(f"{module}: the class {schema.name} has no docstring: add one that says what it does")
    missing = [name for name, _, _, meaning in _parameter_rows(schema) if not meaning]
    if missing:
        where = f"a line for each of them under `Args:` in the docstring of {schema.name}"
        raise ConfigError(f"{module}: parameters without a meaning: {', '.join(missing)}: add {where}")
    return schema.summary


def _table(heading: str, rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {heading} | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, kind, default, meaning in rows:
        default = default if default == NOT_SET else f"`{_cell(default)}`" if default else "required"
        yield f"| `{name}` | {_cell(kind)} | {default} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: Sequence[str]) -> int:
    """Write docs/REFERENCE.md, or compare it if the arguments are --check. Returns the exit code."""
    import_components()
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    written = read_text(PAGE) if PAGE.is_file() else ""
    if written == text:
        return 0
    print("\n".join(difflib.unified_diff(written.splitlines(), text.splitlines(), lineterm="")))
    print(f"docs/REFERENCE.md does not match the code: run {COMMAND}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
