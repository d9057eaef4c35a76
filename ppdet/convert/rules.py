"""The form of the tables that translate a code base's parameter names to ours.

A row has the pattern of a foreign name, the pattern of our name, and, if the name alone is ambiguous, the number of
dimensions of the array. A word in braces is a key of `FIELDS`, which maps each of its foreign texts to ours. For
example, the row ("layer{layer}.{block}.conv{conv}.weight", "res{layer}.{block}.branch2{conv}.conv.weight") translates
layer3.3.conv1.weight to res4.3.branch2a.conv.weight.

Our names in tables count blocks (res4.3); `network.published_name` turns them into PaddleDetection's names (res4.res4d)
once the whole network is known.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

NUMBERS = {str(n): str(n) for n in range(100)}
FIELDS: dict[str, Mapping[str, str]] = {
    "affine": {"weight": "weight", "bias": "bias"},
    "norm": {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"},
    "layer": {"1": "2", "2": "3", "3": "4", "4": "5"},  # the foreign names count stages from 1, ours from 2
    "res": {n: n for n in "2345"},
    "block": NUMBERS,
    "conv": {"1": "a", "2": "b", "3": "c"},  # the convolutions of a block
    "branch": {n: n for n in "abc"},
    # A batch norm, or one whose statistics are folded into scale and bias ("s" and "b").
    "caffe2": {
        "s": "weight",
        "b": "bias",
        "gamma": "weight",
        "beta": "bias",
        "rm": "_mean",
        "riv": "_variance",
        "running_mean": "_mean",
        "running_var": "_variance",
    },
    # A stem of three convolutions, as one sequence of convolution, norm, ReLU, …: in timm and in MMDetection.
    "deep_stem": {"conv1": "", "stem": ""},
    "stem_conv": {"0": "conv1_1", "3": "conv1_2", "6": "conv1_3"},
    "stem_norm": {"1": "conv1_1", "4": "conv1_2", "7": "conv1_3"},
    "offset": {name: "conv_offset" for name in (".conv_offset", "_offset", ".offset")},
    "output_layer": {name: name for name in ("cls", "reg", "centerness")},
    "i": NUMBERS,
    "level": {n: str(int(n) + 3) for n in "01234"},  # P3 to P7, counted from 0
    "tower": {"cls": "cls", "classification": "cls", "reg": "reg", "regression": "reg", "bbox": "reg"},
    # Indices in a tower that is one sequence of convolution, norm, ReLU, convolution, …
    "tower_conv": {str(3 * i): str(i) for i in range(16)},
    "tower_norm": {str(3 * i + 1): str(i) for i in range(16)},
    # FPN levels counted from 0, and from 2.
    "lateral": {"0": "res3_sum_lateral", "1": "res4_sum_lateral", "2": "res5_sum"},
    "output": {"0": "res3_sum", "1": "res4_sum", "2": "res5_sum", "3": "6", "4": "7"},
    "lateral_from_2": {"2": "res3_sum_lateral", "3": "res4_sum_lateral", "4": "res5_sum"},
    "output_from_2": {"2": "res3_sum", "3": "res4_sum", "4": "res5_sum"},
    "extra": {"p6": "6", "p7": "7"},
}


class Rule(NamedTuple):
    """A row of a table; `dimensions` of the array, None for any."""

    foreign: str
    ours: str
    dimensions: int | None = None


Rules = tuple[Rule, ...]
Reasons = tuple[tuple[str, str], ...]


class CodeBase(NamedTuple):
    """The naming of weights in a code base, and differences in its computations.

    Attributes:
        name: as in --from of the command line.
        rules: the names of the detector and its backbone.
        left: regular expressions of names that are left out, each with the reason.
        norm_epsilon: what a frozen batch norm adds to the variance.
        background_row: whether the first row of the classification is the background.
        coco_rows: if the classification can have a row for each category id of COCO: the number of all rows, and the
            rows that have a category. None if it cannot.
        level_scales: whether the head has a learnable scale of the distances for each level.
    """

    name: str
    rules: Rules
    left: Reasons = ()
    norm_epsilon: float = 1e-5
    background_row: bool = False
    coco_rows: tuple[int, tuple[int, ...]] | None = None
    level_scales: bool = True


LEFT_EVERYWHERE: Reasons = ((r".*\bnum_batches_tracked", "a counter that inference does not read"),)


def compile_rules(rules: Iterable[Rule]) -> Callable[[str, int], str | None]:
    """Return a function (foreign name, number of dimensions) -> our numbered name, or None if no rule matches."""
    compiled = [(compile_pattern(rule.foreign), rule) for rule in rules]

    def translate(name: str, dimensions: int) -> str | None:
        for pattern, rule in compiled:
            match = pattern.fullmatch(name)
            if match and rule.dimensions in (None, dimensions):
                return rule.ours.format(**{field: FIELDS[field][text] for field, text in match.groupdict().items()})
        return None

    return translate


def compile_pattern(foreign: str) -> re.Pattern[str]:
    """Return the regular expression of a row's foreign name, with a named group for each field."""
    parts = re.split(r"\{(\w+)\}", foreign)
    texts = [re.escape(part) for part in parts]
    for i in range(1, len(parts), 2):
        texts[i] = f"(?P<{parts[i]}>{'|'.join(FIELDS[parts[i]])})"
    return re.compile("".join(texts))


def table(*rows: tuple, foreign: str = "", ours: str = "") -> Rules:
    """Make rules of rows (foreign name, our name[, dimensions]); `foreign` and `ours` are put before the names."""
    return tuple(Rule(foreign + there, ours + here, *dimensions) for there, here, *dimensions in rows)
