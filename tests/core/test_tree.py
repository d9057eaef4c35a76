"""Parsing and writing YAML."""

import json

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ppdet.core.tree import from_plain, parse, render, render_inline, to_plain
from ppdet.core.yaml_graph import Allowance
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
        ("a: *", "x.yml:1:5: YAML syntax: expected alphabetic or numeric character, but found the end of the text"),
        ("a: 1\n---\nb: 2\n", "x.yml:2:1: YAML syntax: but found another document"),
        ("a: \x07", "x.yml: YAML syntax: unacceptable character"),
        ("a: &a [*a]\n", "x.yml:1: an alias is inside its own anchor"),
        ("? [1, 2]\n: 3\n", "x.yml:1: a list or mapping cannot be a key"),
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


TOO_MANY = "the configuration has more than 100,000 values, counted over all its files and aliases"


@pytest.mark.parametrize("opening", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_cannot_fill_the_memory(opening):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]" if opening == "[{}]" else "a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {opening.format(', '.join([f'*a{i - 1}'] * 10))}" for i in range(1, 9)]
    with pytest.raises(ConfigError, match=TOO_MANY):
        parse("\n".join(lines), "x.yml")


def test_aliases_of_a_long_text_cannot_fill_the_memory_or_the_disk():
    text = f"a: &a {'x' * 50_000}\nb: [{', '.join(['*a'] * 1000)}]"
    with pytest.raises(ConfigError, match=r"x\.yml:1:4: the configuration has more than 1,000,000 characters"):
        parse(text, "x.yml")


def test_the_most_values_of_a_configuration():
    """Mappings and lists count as one value and their entries; keys do not."""
    assert plain("a: &a [1, 2]\nb: 3\nc: 4") == {"a": [1, 2], "b": 3, "c": 4}
    allowance = Allowance(values=12)
    for _ in range(2):  # two files of one configuration
        parse("a: &a [1, 2]\nb: 3\nc: 4", "x.yml", allowance=allowance)
    for text in ("1", "[" + "[], " * 100 + "]"):
        with pytest.raises(ConfigError, match=TOO_MANY):
            parse(text, "x.yml", allowance=allowance)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 490 + "]" * 490, "{a: " * 490 + "}" * 490, "- " * 490 + "a", "? " * 490 + "a", "[" * 100_000),
        "a0: &a0 []\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 490)),
        "a0: &a0 {}\n" + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}}}\n" for i in range(1, 490)),
    ],
)
def test_deep_nesting_is_an_error(text):
    with pytest.raises(ConfigError, match="nested too deeply, more than 50 levels"):
        parse(text, "x.yml")


def test_as_deep_as_50_levels():
    assert plain("[" * 51 + "]" * 51) == json.loads("[" * 51 + "]" * 51)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r'a: "\U00110000"', "YAML syntax: before the end of line 1 is an escape of no character"),
        (r'a: "\UFFFFFFFF"', "YAML syntax: before the end of line 1 is an escape of no character"),
        (f"%YAML {'1' * 5000}.1\n---\na: 1", "YAML syntax: before the end of line 1 is a number with too many digits"),
        (r'a: "x\0"', r"'x\x00' is no text that a path or a name can be: it has a NUL character"),
        (r'"\ud800": 1', r"'\ud800' is no text that a path or a name can be"),
        ("a: " + "1" * 100_000, "has 100,000 characters, a number has at most 100"),
        ("a: 0x" + "f" * 98, f"'0x{'f' * 58}…' is beyond the integers of 64 bits"),
        ("a: 0x" + "f" * 5000, f"'0x{'f' * 58}…' has 5,002 characters, a number has at most 100"),
        ("a: 0" + "7" * 5000, "a number has at most 100"),
        ("a: 1" + ":10" * 5000, "a number has at most 100"),
        ("a: 1e" + "9" * 5000, "a number has at most 100"),
        (f"? {'1' * 100_000}\n: a", "a number has at most 100"),
        ("a: 9223372036854775808", "'9223372036854775808' is beyond the integers of 64 bits"),
        ("a: -0xffffffffffffffffff", "is beyond the integers of 64 bits"),
        ("a: !!int ''", "'' is not a valid int"),
        ("a: !!float ''", "'' is not a valid float"),
        ("requires: [!!str [a]]", "the YAML tag !!str is refused"),
        ("a: !!set {b}", "the YAML tag !!set is refused"),
        ("a: !!omap [b: 1]", "the YAML tag !!omap is refused"),
        ("a: !!timestamp 2024-99-99", "the YAML tag !!timestamp is refused"),
        ("a: !%ff x", "YAML syntax:"),
    ],
)
def test_what_no_setting_can_be_is_one_line(text, message):
    for origin, place in ((None, "x.yml"), ("-o", "-o: x.yml")):
        with pytest.raises(ConfigError) as error:
            parse(text, "x.yml", fixed_origin=origin)
        line = str(error.value)
        assert message in line
        assert line.startswith(place)
        assert len(line) < 500
        assert "\n" not in line


@pytest.mark.parametrize("value", [2**63, -(2**70), "a\0", "\udcff"])
def test_values_from_python_have_the_same_bounds(value):
    with pytest.raises(ConfigError, match=r"^merge_config: a value is "):
        from_plain({"a": [value]}, "merge_config")


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
tricky = st.sampled_from(["1e-4", "yes", "null", "~", "12:30", "0x1f", "<<", "=", "!a", "a: b", "- a", "2024-01-31"])
scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False) | words | tricky
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
