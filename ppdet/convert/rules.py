"""Tables that say what a code base's names are here.

A row is the pattern of a foreign name, that of ours, and, where a name alone does not tell, how many dimensions the
array has. What stands in braces is one of `FIELDS`, which lists its texts there and what each of them is here. Ours are
numbered names: they count blocks (`res4.3`), and `network.publish` makes published names of them (`res4.res4d`) once it
is known what the network is.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

NUMBERS = {str(n): str(n) for n in range(100)}
FIELDS: dict[str, Mapping[str, str]] = {
    "affine": {"weight": "weight", "bias": "bias"},
    "norm": {"weight": "weight", "bias": "bias", "running_mean": "_mean", "running_var": "_variance"},
    "layer": {"1": "2", "2": "3", "3": "4", "4": "5"},  # stages that are counted from 1
    "res": {n: n for n in "2345"},
    "block": NUMBERS,
    "conv": {"1": "a", "2": "b", "3": "c"},  # a block's convolutions
    "branch": {n: n for n in "abc"},
    # A norm with its statistics folded in, as AffineChannel, or a batch norm.
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
    "i": NUMBERS,
    "level": {n: str(int(n) + 3) for n in "01234"},  # P3 to P7, counted from 0
    "tower": {"cls": "cls", "classification": "cls", "reg": "reg", "regression": "reg", "bbox": "reg"},
    # Towers as one sequence of convolution, norm and ReLU.
    "tower_conv": {str(3 * i): str(i) for i in range(16)},
    "tower_norm": {str(3 * i + 1): str(i) for i in range(16)},
    # Pyramids counted from 0, and by their stage less one.
    "lateral": {"0": "res3_sum_lateral", "1": "res4_sum_lateral", "2": "res5_sum"},
    "output": {"0": "res3_sum", "1": "res4_sum", "2": "res5_sum", "3": "6", "4": "7"},
    "lateral_from_2": {"2": "res3_sum_lateral", "3": "res4_sum_lateral", "4": "res5_sum"},
    "output_from_2": {"2": "res3_sum", "3": "res4_sum", "4": "res5_sum"},
    "extra": {"p6": "6", "p7": "7"},
}


class Rule(NamedTuple):
    foreign: str
    ours: str
    dimensions: int | None = None


Rules = tuple[Rule, ...]
Reasons = tuple[tuple[str, str], ...]


class CodeBase(NamedTuple):
    """How a code base names and reads weights.

    name: as on the command line. rules: of the detector and its backbone. left: patterns (regular expressions) of names
    that nothing here needs, each with the reason. norm_epsilon: what its frozen norm adds to the variance.
    background_row: the first class of its heads is no class of the data. coco_rows: rows of the classes, where a head
    has one per category id of COCO: (how many it has then, which). level_scales: its heads scale the levels' distances.
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
    """A function that gives our numbered name of a foreign one with so many dimensions, or None."""
    compiled = [(compile_pattern(rule.foreign), rule) for rule in rules]

    def translate(name: str, dimensions: int) -> str | None:
        for pattern, rule in compiled:
            found = pattern.fullmatch(name)
            if found and rule.dimensions in (None, dimensions):
                return rule.ours.format(**{field: FIELDS[field][text] for field, text in found.groupdict().items()})
        return None

    return translate


def compile_pattern(foreign: str) -> "re.Pattern[str]":
    parts = re.split(r"\{(\w+)\}", foreign)
    texts = [re.escape(part) for part in parts]
    for i in range(1, len(parts), 2):
        texts[i] = f"(?P<{parts[i]}>{'|'.join(FIELDS[parts[i]])})"
    return re.compile("".join(texts))


def table(*rows: tuple, foreign: str = "", ours: str = "") -> Rules:
    """Rules from rows of (foreign name, our name[, dimensions]), each name after the prefix given for its side."""
    return tuple(Rule(foreign + there, ours + here, *dimensions) for there, here, *dimensions in rows)
