"""Converts the arrays of another code base: renames them, and adapts values if it computes differently."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ppdet.convert.code_bases import CODE_BASES
from ppdet.convert.named_arrays import Checkpoint, ConversionError, read_checkpoint
from ppdet.convert.network import CLASS_WEIGHT, Network, network_of, numbered_names, published_name
from ppdet.convert.rules import LEFT_EVERYWHERE, CodeBase, compile_rules
from ppdet.utils.printable import quoted

NORM_EPSILON = 1e-5  # what batch norms of this project add to the variance
UNKNOWN = "this detector has no such part"
CLASSES = "fcos_head.fcos_head_cls."
IS_KERNEL = re.compile(r"(?<!\.norm)\.weight$")
# Layers that this project has only with this number of rows (output channels).
ROWS = (
    (r".*\.conv_offset\.\w+", 27, "DCNv2 with one group of 9 offsets and masks"),
    (r"fcos_head\.fcos_head_reg\.\w+", 4, "one point per location, with 4 distances,"),
)


class Conversion(NamedTuple):
    """The result of a conversion.

    Attributes:
        arrays: float32 arrays by published name; without `backbone.` in front if the file has only a backbone.
        code_base: the name of the code base.
        network: the properties of the network.
        names: the foreign name of each converted array, by published name.
        left: why an array was left out, by foreign name.
        made: why an array was added that is not in the file, by published name.
        missing: published names of arrays that the network needs and the file does not have.
        notes: sentences for the user.
    """

    arrays: dict[str, np.ndarray]
    code_base: str
    network: Network
    names: dict[str, str]
    left: dict[str, str]
    made: dict[str, str]
    missing: list[str]
    notes: list[str]


def convert_path(path: os.PathLike, code_base: str = "auto") -> tuple[Conversion, Checkpoint]:
    """Read and convert a file; return the conversion and the file's content. Errors name the file."""
    checkpoint = read_checkpoint(path)
    try:
        return convert(checkpoint, code_base), checkpoint
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None


def convert(checkpoint: Checkpoint, code_base: str = "auto") -> Conversion:
    """Rename and adapt a checkpoint's arrays.

    Args:
        code_base: a key of `CODE_BASES`; "auto" selects the one that knows most of the names.

    Raises:
        ConversionError: no array has a name of the code base, two have the same name here, or one has a shape or type
            that this project does not support.
    """
    base, names = recognize(checkpoint.arrays, code_base)
    used = set(names.values())
    left = {name: why_left_out(base, name) for name in checkpoint.arrays if name not in used}
    left.update({name: "not an array" for name in checkpoint.others})
    if CLASS_WEIGHT not in names:
        of_detector = [ours for ours in names if not ours.startswith("backbone.")]
        left.update(
            {names.pop(ours): "the file has no FCOS head: only its backbone is converted" for ours in of_detector}
        )
    if not names:
        raise ConversionError("has neither an FCOS head nor a ResNet")
    arrays, notes = {}, []
    for ours, foreign in names.items():
        check_array(ours, foreign, checkpoint.arrays[foreign])
        arrays[ours] = adapt_array(ours, checkpoint.arrays[foreign], base)
        if not np.isfinite(arrays[ours]).all():
            notes.append(f"{foreign} holds NaN or infinite values: its training diverged")
    if CLASS_WEIGHT in names:
        notes += filter(None, [class_rows(len(checkpoint.arrays[names[CLASS_WEIGHT]]), base)[1]])
    made = make_implied(arrays, names, base)
    network = network_of({name: array.shape for name, array in arrays.items()})
    detector = network.num_classes is not None

    def final(name: str) -> str:
        name = published_name(name, network)
        return name if detector else name[len("backbone.") :]

    published = {final(name): array for name, array in arrays.items()}
    return Conversion(
        arrays=published,
        code_base=base.name,
        network=network,
        names={final(name): foreign for name, foreign in names.items()},
        left=left,
        made={final(name): why for name, why in made.items()},
        missing=[name for name in map(final, numbered_names(network)) if name not in published],
        notes=notes,
    )


def recognize(arrays: Mapping[str, np.ndarray], code_base: str) -> tuple[CodeBase, dict[str, str]]:
    """Return the code base of some arrays, and their foreign names by numbered name."""
    candidates = list(CODE_BASES.values()) if code_base == "auto" else [CODE_BASES[code_base]]
    found: list[tuple[CodeBase, list[tuple[str, str]]]] = []
    for base in candidates:
        translate = compile_rules(base.rules)
        translated = ((name, translate(name, array.ndim)) for name, array in arrays.items())
        found.append((base, [(foreign, ours) for foreign, ours in translated if ours]))
    base, pairs = max(found, key=lambda item: len(item[1]))
    if not pairs:
        raise ConversionError(
            f"none of its {len(arrays)} arrays has a name of {', '.join(b.name for b in candidates)}; the first is "
            f"{quoted(next(iter(arrays), ''), 100)}"
        )
    names: dict[str, str] = {}
    for foreign, ours in pairs:
        if ours in names:
            raise ConversionError(f"{names[ours]} and {foreign} are the same part of the network")
        names[ours] = foreign
    return base, names


def why_left_out(base: CodeBase, name: str) -> str:
    """Say why an array that no rule translates is left out."""
    return next((why for pattern, why in (*LEFT_EVERYWHERE, *base.left) if re.fullmatch(pattern, name)), UNKNOWN)


def check_array(name: str, foreign: str, array: np.ndarray) -> None:
    """Raise ConversionError if the array cannot be the parameter `name`: by its type, dimensions or number of rows."""
    is_scale = name.endswith(".scale_reg")
    if array.dtype.kind not in "fiu":
        raise ConversionError(f"{foreign} is of type {array.dtype}; expected numbers")
    if not array.size:
        raise ConversionError(f"{foreign} is empty: its shape is {list(array.shape)}")
    if is_scale and array.size != 1:
        raise ConversionError(f"{foreign} has {array.size} values, expected 1: this is another kind of network")
    dimensions = 4 if IS_KERNEL.search(name) else 1
    if not is_scale and array.ndim != dimensions:
        raise ConversionError(
            f"{foreign} has {array.ndim} dimensions, expected {dimensions}: this is another kind of network"
        )
    for pattern, rows, only in ROWS:
        if re.fullmatch(pattern, name) and len(array) != rows:
            raise ConversionError(f"{foreign} has {len(array)} rows: only {only} is supported")


def adapt_array(name: str, array: np.ndarray, base: CodeBase) -> np.ndarray:
    """Return the array as this project needs it: classes without background, float32, the variance for our epsilon."""
    if name.startswith(CLASSES):
        array = array[class_rows(len(array), base)[0]]
    with np.errstate(over="ignore"):
        array = np.array(array, np.float32, order="C")
    if name.endswith(".scale_reg"):
        return array.reshape(1)
    if name.startswith("backbone.") and name.endswith(".norm._variance"):
        return array + np.float32(base.norm_epsilon - NORM_EPSILON)
    return array


def class_rows(rows: int, base: CodeBase) -> tuple[list[int], str]:
    """Return the rows of a classification that are classes of the data set, in its order, and a note for the user."""
    if base.coco_rows and rows == base.coco_rows[0]:
        kept = list(base.coco_rows[1])
        return kept, f"of the {rows} rows of its classification, the rows of COCO's {len(kept)} categories"
    if base.background_row:
        return list(range(1, rows)), f"of the {rows} rows of its classification, all but the first, the background's"
    return list(range(rows)), ""


def make_implied(arrays: dict[str, np.ndarray], names: Mapping[str, str], base: CodeBase) -> dict[str, str]:
    """Add parameters that this project's network has and the source network lacks, with values that change nothing.

    Args:
        arrays: the arrays by numbered name; new ones are added to this dict.

    Returns:
        The reason for each array that was added, by numbered name.
    """
    made: dict[str, str] = {}

    def make(name: str, array: np.ndarray, why: str) -> None:
        arrays[name], made[name] = array.astype(np.float32), why

    for name in list(names):
        layer, _, part = name.rpartition(".")
        if re.fullmatch(r"fcos_head\.\w+_tower\.\d+\.conv\.weight", name) and f"{layer}.bias" not in arrays:
            make(f"{layer}.bias", np.zeros(len(arrays[name])), "its convolutions before a norm have no bias: zeros")
        if part == "weight" and names[name].endswith("_bn_s") and f"{layer}._variance" not in arrays:
            why = "the statistics of its norms are folded into scale and bias: mean 0, variance 1"
            make(f"{layer}._mean", np.zeros(len(arrays[name])), why)
            make(f"{layer}._variance", np.full(len(arrays[name]), 1 - NORM_EPSILON), why)
    if CLASS_WEIGHT in arrays and not base.level_scales:
        for level in range(3, 8):
            make(f"fcos_head.p{level}_feat.scale_reg", np.ones(1), "its levels have no scales: ones")
    block = "backbone.res2.0"
    convs = {part for part in ("branch2b", "branch2c", "short", "pooled") if f"{block}.{part}.conv.weight" in arrays}
    if convs == {"branch2b"}:  # blocks of two convolutions, whose first shortcut is the identity
        channels, inputs = arrays[f"{block}.branch2b.conv.weight"].shape[:2]
        if channels != inputs:
            foreign = names[f"{block}.branch2b.conv.weight"]
            raise ConversionError(
                f"{foreign} has {inputs} inputs and {channels} outputs, expected as many: another kind of network"
            )
        why = "its first shortcut has no convolution: one that is the identity"
        make(f"{block}.short.conv.weight", np.eye(channels)[:, :, None, None], why)
        for part, value in (("weight", 1), ("bias", 0), ("_mean", 0), ("_variance", 1 - NORM_EPSILON)):
            make(f"{block}.short.norm.{part}", np.full(channels, value, np.float64), why)
    return made
