"""Merging one YAML file over another."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdet.core.compose.merge import merge, override
from ppdet.core.tree import from_plain, on_layer, parse, to_plain
from ppdet.utils.errors import ConfigError

leaves = st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2) | st.none()
trees = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_size=3,
)


def merged(base, new):
    return to_plain(merge(from_plain(base, "base"), from_plain(new, "new")))


@given(trees, trees)
def test_laws(a, b):
    assert merged(a, {}) == a
    assert merged({}, a) == a
    assert merged(a, a) == a
    result = merged(a, b)
    assert merged(result, b) == result
    assert set(result) == set(a) | set(b)
    for key in result:
        if key not in b:
            assert result[key] == a[key]
        elif not (isinstance(a.get(key), dict) and isinstance(b[key], dict)):
            assert result[key] == b[key]


@pytest.mark.parametrize(
    ("base", "new", "result"),
    [
        # the same component: parameter by parameter, whatever the spelling
        ("{name: ToyFlip, prob: 1}", "{name: ToyFlip}", {"name": "ToyFlip", "prob": 1}),
        ("!ToyFlip {prob: 1}", "{name: ToyFlip}", {"name": "ToyFlip", "prob": 1}),
        ("{name: ToyFlip}", "!ToyFlip {prob: 1}", {"name": "ToyFlip", "prob": 1}),
        ("{ToyFlip: {prob: 1}}", "{name: ToyFlip, x: 2}", {"name": "ToyFlip", "prob": 1, "x": 2}),
        ("{ToyFlip: }", "{prob: 1}", {"name": "ToyFlip", "prob": 1}),
        ("ToyFlip", "{prob: 1}", {"name": "ToyFlip", "prob": 1}),
        ("!ToyFlip {prob: 1}", "{prob: 2}", {"name": "ToyFlip", "prob": 2}),
        # another component replaces
        ("{name: ToyFlip, prob: 1}", "{name: ToyLoss, alpha: 2}", {"name": "ToyLoss", "alpha": 2}),
        ("!ToyFlip {prob: 1}", "!ToyLoss {alpha: 2}", {"name": "ToyLoss", "alpha": 2}),
        ("{name: ToyFlip, prob: 1}", "{ToyLoss: {alpha: 2}}", {"ToyLoss": {"alpha": 2}}),
        ("ToyFlip", "{name: ToyLoss}", {"name": "ToyLoss"}),
        # lists, scalars and null replace; so does a name alone
        ("[1, 2]", "[3]", [3]),
        ("{a: 1}", "2", 2),
        ("{a: 1}", "null", None),
        ("{name: ToyFlip, prob: 1}", "ToyFlip", "ToyFlip"),
        ("null", "{a: 1}", {"a": 1}),
    ],
)
def test_components(base, new, result):
    assert to_plain(merge(parse(base, "a"), parse(new, "b"))) == result


def test_neither_input_changes():
    base, new = parse("{a: {b: 1}}", "a"), parse("{a: {c: 2}}", "b")
    merge(base, new)
    override(base, "a.b", parse("3", "-o"))
    assert to_plain(base) == {"a": {"b": 1}}
    assert to_plain(new) == {"a": {"c": 2}}


SPELLINGS = [
    "- !ToyFlip {prob: 1}",
    "- {name: ToyFlip, prob: 1}",
    "- ToyFlip: {prob: 1}",
    "- ToyFlip",
    "- ToyFlip:",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("path", ["0.prob", "0.ToyFlip.prob"])
def test_override_of_a_list_item_in_every_spelling(spelling, path):
    root = from_plain({"ToyReader": {"transforms": parse(spelling, "a")}}, "a")
    result = override(root, f"ToyReader.transforms.{path}", from_plain(0.75, "-o"))
    assert to_plain(result) == {"ToyReader": {"transforms": [{"name": "ToyFlip", "prob": 0.75}]}}


@pytest.mark.parametrize(
    ("text", "key", "value", "result"),
    [
        ("{}", "x_a.b.c", 1, {"x_a": {"b": {"c": 1}}}),
        ("{x_a: {b: 1}}", "x_a", {"c": 2}, {"x_a": {"b": 1, "c": 2}}),
        ("{x_a: null}", "x_a.b", 1, {"x_a": {"b": 1}}),
        ("{x_a: [1, [2, 3]]}", "x_a.1.0", 9, {"x_a": [1, [9, 3]]}),
        ("{x_a: [1]}", "x_a", [2, 3], {"x_a": [2, 3]}),
        ("{x_a: {7: b}}", "x_a.7", "c", {"x_a": {7: "c"}}),
        # from the default of the component
        ("{}", "ToyBackbone.return_idx.0", 0, {"ToyBackbone": {"return_idx": [0, 2, 3]}}),
        ("{}", "ToyHead.loss.alpha", 1, {"ToyHead": {"loss": {"name": "ToyLoss", "alpha": 1}}}),
        # from the section of the component
        (
            "{ToyDetector: {backbone: ToyBackbone}, ToyBackbone: {return_idx: [5, 6]}}",
            "ToyDetector.backbone.return_idx.1",
            7,
            {
                "ToyDetector": {"backbone": {"name": "ToyBackbone", "return_idx": [5, 7]}},
                "ToyBackbone": {"return_idx": [5, 6]},
            },
        ),
        # another component
        (
            "{TrainDataset: !ToyDataSet {anno_path: a}}",
            "TrainDataset.name",
            "ToyFolder",
            {"TrainDataset": {"name": "ToyFolder"}},
        ),
    ],
)
def test_override(text, key, value, result):
    assert to_plain(override(parse(text, "a"), key, on_layer(from_plain(value, "-o"), 1))) == result


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("x_a.3", "-o: x_a.3: x_a is a list: expected an index from 0 to 1, got '3'"),
        ("x_a.-1", "-o: x_a.-1: x_a is a list: expected an index from 0 to 1, got '-1'"),
        ("x_a.b", "-o: x_a.b: x_a is a list: expected an index from 0 to 1, got 'b'"),
        ("x_e.0", "-o: x_e.0: x_e is a list: expected no index, because it is empty, got '0'"),
        ("x_b.c", "-o: x_b.c: x_b is 5 (x.yml:2) and has no parameters or items"),
        ("x_b.", "-o: x_b.: expected words and list indices joined by dots"),
        ("", "-o: expected words and list indices joined by dots"),
    ],
)
def test_override_that_leads_nowhere(key, message):
    root = parse("x_a: [1, 2]\nx_b: 5\nx_e: []\n", "x.yml")
    with pytest.raises(ConfigError) as error:
        override(root, key, from_plain(1, "-o"))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ToyHead.nope.deep=1", "-o: ToyHead.nope: "),
        ("ToyHead.loss.nope.deep=1", "-o: ToyHead.loss.nope: "),
        ("ToyResize.target_size.0=5", "-o: ToyResize.target_size: expected list"),
    ],
)
def test_steps_below_what_has_no_default(load, override, message):
    with pytest.raises(ConfigError) as error:
        load("", override)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("overrides", "result"),
    [
        # a component together with its parameters, in every way to name it
        (["ToyHead.nms.prob=0.25", "ToyHead.nms.name=ToyFlip"], {"nms": {"prob": 0.25, "name": "ToyFlip"}}),
        (["ToyHead.nms.prob=0.25", "ToyHead.nms=ToyFlip"], {"nms": {"prob": 0.25, "name": "ToyFlip"}}),
        (["ToyHead.nms.prob=0.25", "ToyHead.nms={name: ToyFlip}"], {"nms": {"prob": 0.25, "name": "ToyFlip"}}),
        (
            ["ToyHead.nms.prob=0.25", "ToyHead={nms: ToyFlip, num_classes: 3}"],
            {"nms": {"prob": 0.25, "name": "ToyFlip"}},
        ),
        (["ToyHead.nms={prob: 0.25}", "ToyHead.nms.name=ToyFlip"], {"nms": {"prob": 0.25, "name": "ToyFlip"}}),
        (["ToyHead={nms: {prob: 0.25}}", "ToyHead.nms.name=ToyFlip"], {"nms": {"prob": 0.25, "name": "ToyFlip"}}),
        (["ToyHead.nms.ToyFlip={prob: 0.25}", "ToyHead.nms=ToyFlip"], {"nms": {"prob": 0.25, "name": "ToyFlip"}}),
        # the items of a list, and the entries of a mapping
        (["ToyHead.stride.1=7", "ToyHead.stride=[3, 4]"], {"stride": [3, 7]}),
        (["ToyHead.options.a=1", "ToyHead.options={a: 2, b: 3}"], {"options": {"a": 1, "b": 3}}),
    ],
)
def test_the_order_of_overrides_does_not_matter(load, overrides, result):
    for texts in itertools.permutations(overrides):
        cfg = load("ToyHead: {nms: {name: ToyResize, target_size: [8, 8]}, options: {a: 5}}", *texts)
        found = cfg.to_dict()["ToyHead"]
        assert {key: found[key] for key in result} == result


def test_the_last_override_of_a_key_counts(load):
    cfg = load("", "epoch=3", "ToyHead.nms=ToyFlip", "ToyHead.nms.name=ToyLoss", "ToyHead.nms.alpha=1", "epoch=5")
    assert cfg.to_dict() == {"epoch": 5, "ToyHead": {"nms": {"name": "ToyLoss", "alpha": 1}}}


@pytest.mark.parametrize("last", ["ToyReader.transforms.0.prob", "ToyReader.transforms.0.ToyFlip.prob"])
def test_the_last_override_of_a_list_item_counts(load, last):
    first = {"ToyReader.transforms.0.prob", "ToyReader.transforms.0.ToyFlip.prob"} - {last}
    cfg = load("ToyReader: {transforms: [ToyFlip]}", f"{first.pop()}=0.25", f"{last}=0.5")
    assert cfg.to_dict()["ToyReader"] == {"transforms": [{"name": "ToyFlip", "prob": 0.5}]}


def test_an_override_of_what_another_one_removes_is_an_error(load):
    for texts in itertools.permutations(["ToyHead.nms.prob=1", "ToyHead.nms=ToyLoss"]):
        with pytest.raises(ConfigError, match=r"^-o: ToyHead.nms.prob: ToyLoss has no parameter 'prob'"):
            load("ToyHead: {nms: ToyFlip}", *texts)
    for texts in itertools.permutations(["x_a.b.c=1", "x_a.b=5"]):
        with pytest.raises(ConfigError, match=r"^-o: x_a.b.c: x_a.b is 5 \(-o\) and has no parameters or items"):
            load("", *texts)
