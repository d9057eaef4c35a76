"""Parsing and writing YAML."""

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppdet.core import tree
from ppdet.core.tree import parse, render, render_inline, to_plain
from ppdet.utils.errors import ConfigError

OWN = "; a component of your own needs --import FILE (docs/EXTENDING.md)"


def plain(text):
    return to_plain(parse(text, "x.yml"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E4", 1e4),
        ("-2.5e+3", -2500.0),
        (".5e-2", 0.005),
        ("0.", 0.0),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x10", 16),
        (".inf", float("inf")),
        ("'1e-4'", "1e-4"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
        ("2024-01-31", "2024-01-31"),
        ("yes", True),
        ("~", None),
        ("", None),
        ("=", "="),
    ],
)
def test_plain_words(text, value):
    result = plain(text)
    assert result == value
    assert type(result) is type(value)


def test_anchors_aliases_and_merge_keys():
    text = """
a: &base {x: 1, y: 2}
b: {<<: *base, y: 3}
c: {<<: [*base, {x: 9, z: 4}]}
n: &n 240
l: [*n, *n]
"""
    assert plain(text) == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 1, "y": 3},
        "c": {"x": 1, "y": 2, "z": 4},
        "n": 240,
        "l": [240, 240],
    }


def test_origin_is_the_line_of_the_key_and_inside_an_alias_that_of_the_anchor():
    root = parse("a: &a\n  x: 1\n\nb: *a\n", "x.yml")
    assert root.value["b"].origin == "x.yml:4"
    assert root.value["b"].value["x"].origin == "x.yml:2"


@pytest.mark.parametrize("text", ["- !ToyFlip {prob: 1}", "- !ToyFlip\n  prob: 1"])
def test_component_tag(text):
    (node,) = parse(text, "x.yml").value
    assert (node.tag, to_plain(node)) == ("ToyFlip", {"name": "ToyFlip", "prob": 1})


def test_component_tag_without_parameters():
    assert plain("- !ToyFlip") == [{"name": "ToyFlip"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "x.yml:2: a: the key is set twice, first at x.yml:1"),
        ("a: {b: 1, c: [}\n", "x.yml:1:15: YAML syntax:"),
        ("a: [1, 2\nb: 3\n", "x.yml:2:2: YAML syntax:"),
        ("a:\n\t- 1\n", "x.yml:2:1: YAML syntax:"),
        ("a: *b\n", "x.yml:1:4: YAML syntax: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "x.yml:2:1: YAML syntax: but found another document"),
        ("a: \x07", "x.yml: YAML syntax: unacceptable character"),
        ("a: &a [*a]\n", "x.yml:1: an alias is inside its own anchor"),
        ("? [1, 2]\n: 3\n", "x.yml:1: 'a list or mapping' cannot be a key"),
        ("true: 3\n", "x.yml:1: 'true' cannot be a key: write a word, or put it in quotes"),
        ("a: {<<: 3}\n", "x.yml:1: <<: expected an alias of a mapping"),
        ("a: !!int x\n", "x.yml:1:4: 'x' is not a valid int"),
        ("a: !!map x\n", "x.yml:1:4: the YAML tag !!map is refused"),
        ("a: !!float [1]\n", "x.yml:1:4: the YAML tag !!float is refused"),
        ("a: !!binary aGk=\n", "x.yml:1:4: the YAML tag !!binary is refused"),
        (
            "a: !ToyFlp {}\n",
            "x.yml:1:4: !ToyFlp is not a component that can be a tag; did you mean 'ToyFlip'?" + OWN,
        ),
        (
            "a: !ToyResize {}\n",
            "x.yml:1:4: !ToyResize is not a component that can be a tag: write {name: ToyResize, ...}, or decorate",
        ),
        ("a: !ToyFlip [1]\n", "x.yml:1:4: expected a mapping of parameters after !ToyFlip"),
        ("a: !ToyFlip yes\n", "x.yml:1:4: expected a mapping of parameters after !ToyFlip"),
        ("!ToyFlip : 1\n", "x.yml:1:1: the tag !ToyFlip is not allowed here"),
    ],
)
def test_mistakes_name_file_and_line(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text, "x.yml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system",
        "!!python/object/new:os.system",
        "!!python/name:os.system",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/object/apply:os.system>",
    ],
)
@pytest.mark.parametrize("template", ["a: {tag} [touch HACKED]", "{tag} x: 1", "a:\n  - {tag} {{}}"])
def test_no_tag_runs_code(tag, template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"x\.yml:\d+:\d+: the YAML tag \S*python/\S+ is refused"):
        parse(template.format(tag=tag), "x.yml")
    assert not list(tmp_path.iterdir())


def test_aliases_cannot_fill_the_memory():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="aliases expand this file to more than"):
        parse("\n".join(lines), "x.yml")


def test_the_most_values_of_a_file(monkeypatch):
    """Mappings and lists count as one value and their entries; keys do not."""
    monkeypatch.setattr(tree, "MAX_VALUES", 6)
    assert plain("a: &a [1, 2]\nb: 3\nc: 4") == {"a": [1, 2], "b": 3, "c": 4}
    with pytest.raises(ConfigError, match="aliases expand this file to more than 6 values"):
        parse("a: &a [1, 2]\nb: *a\n", "x.yml")


def test_deep_nesting_is_an_error():
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse("[" * 3000 + "]" * 3000, "x.yml")


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)  # surrogates are not text
tricky = st.sampled_from(["1e-4", "yes", "null", "~", "12:30", "0x1f", "<<", "=", "!a", "a: b", "- a", "2024-01-31"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | tricky
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | tricky, inner, max_size=3)
)


@settings(deadline=None)
@given(values)
@example("\xa0")
@example("\u3000a")
@example(["\x85", {"\x85": "a\x85b"}])
@example("\ufeff")
@example("\u2028 \u2029")
def test_what_is_written_is_read_back(value):
    assert plain(render(value)) == value
    line = render_inline(value)
    assert "\n" not in line
    assert plain(line) == value


def test_objects_have_no_yaml_form():
    with pytest.raises(yaml.YAMLError):
        render_inline(object())
