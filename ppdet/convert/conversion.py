"""From another code base's arrays to this project's."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ppdet.convert.detectron2 import DETECTRON2
from ppdet.convert.fcos_plus import FCOS_PLUS
from ppdet.convert.mmdet import MMDET
from ppdet.convert.named_arrays import Checkpoint, ConversionError, read_checkpoint
from ppdet.convert.network import CLASS_WEIGHT, Network, inspect, numbered_names, publish
from ppdet.convert.rules import LEFT_EVERYWHERE, CodeBase, compile_rules
from ppdet.convert.torchvision import TORCHVISION

# The first of those that know most names of a file is taken for its code base.
CODE_BASES = {base.name: base for base in (TORCHVISION, MMDET, FCOS_PLUS, DETECTRON2)}
NORM_EPSILON = 1e-5  # of norms here
UNKNOWN = "no part of this detector has that name"
CLASSES = "fcos_head.fcos_head_cls."
IS_KERNEL = re.compile(r"(?<!\.norm)\.weight$")
# Layers of other shapes than theirs are of networks that cannot be built here.
ROWS = (
    (r".*\.conv_offset\.\w+", 27, "DCNv2 with one group of 9 offsets and masks"),
    (r"fcos_head\.fcos_head_reg\.\w+", 4, "one point per location, with 4 distances,"),
)


class Conversion(NamedTuple):
    """arrays: float32, by published name; a backbone alone has names without `backbone.`. code_base: where they come
    from. network: what they are weights of. names: the foreign name of each array that was in the file. left: reasons
    by foreign name. made: reasons by published name. missing: published names. notes: what else to know.
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
    """`convert` of a file, and what was in it; mistakes name the file."""
    checkpoint = read_checkpoint(path)
    try:
        return convert(checkpoint, code_base), checkpoint
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None


def convert(checkpoint: Checkpoint, code_base: str = "auto") -> Conversion:
    """Rename and adapt a checkpoint's arrays.

    Args:
        code_base: a key of `CODE_BASES`, or auto for the one whose names they are.

    Raises:
        ConversionError: no array has a name of the code base, two are the same, or one cannot be used here.
    """
    base, names = recognise(checkpoint.arrays, code_base)
    used = set(names.values())
    left = {name: reason(base, name) for name in checkpoint.arrays if name not in used}
    left.update({name: "not an array" for name in checkpoint.others})
    if CLASS_WEIGHT not in names:
        of_detector = [ours for ours in names if not ours.startswith("backbone.")]
        left.update({names.pop(ours): "the file has no FCOS head: its backbone alone is taken" for ours in of_detector})
    if not names:
        raise ConversionError("has neither an FCOS head nor a ResNet")
    arrays, notes = {}, []
    for ours, foreign in names.items():
        check(ours, foreign, checkpoint.arrays[foreign])
        arrays[ours] = adapt(ours, checkpoint.arrays[foreign], base)
        if not np.isfinite(arrays[ours]).all():
            notes.append(f"{foreign} holds NaN or infinite values: its training diverged")
    if CLASS_WEIGHT in names:
        notes += filter(None, [class_rows(len(checkpoint.arrays[names[CLASS_WEIGHT]]), base)[1]])
    made = make_implied(arrays, names, base)
    network = inspect({name: array.shape for name, array in arrays.items()})
    detector = network.num_classes is not None

    def final(name: str) -> str:
        name = publish(name, network)
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


def recognise(arrays: Mapping[str, np.ndarray], code_base: str) -> tuple[CodeBase, dict[str, str]]:
    """The code base, and the foreign name of each numbered one."""
    candidates = list(CODE_BASES.values()) if code_base == "auto" else [CODE_BASES[code_base]]
    found = []
    for base in candidates:
        translate = compile_rules(base.rules)
        pairs = [(name, translate(name, array.ndim)) for name, array in arrays.items()]
        found.append((base, [(foreign, ours) for foreign, ours in pairs if ours]))
    base, pairs = max(found, key=lambda item: len(item[1]))
    if not pairs:
        raise ConversionError(
            f"none of its {len(arrays)} arrays has a name of {', '.join(b.name for b in candidates)}; the first is "
            f"{next(iter(arrays), '')!r:.100}"
        )
    names: dict[str, str] = {}
    for foreign, ours in pairs:
        if ours in names:
            raise ConversionError(f"{names[ours]} and {foreign} are the same part of the network")
        names[ours] = foreign
    return base, names


def reason(base: CodeBase, name: str) -> str:
    """Why an array that has no name here is left."""
    return next((why for pattern, why in (*LEFT_EVERYWHERE, *base.left) if re.fullmatch(pattern, name)), UNKNOWN)


def check(name: str, foreign: str, array: np.ndarray) -> None:
    """Raise ConversionError where no layer here can take the array."""
    is_scale = name.endswith(".scale_reg")
    if array.dtype.kind not in "fiu":
        raise ConversionError(f"{foreign} is of type {array.dtype}, which no weight is")
    if is_scale and array.size != 1:
        raise ConversionError(f"{foreign} has {array.size} values, not 1: another kind of network")
    dimensions = 4 if IS_KERNEL.search(name) else 1
    if not is_scale and array.ndim != dimensions:
        raise ConversionError(
            f"{foreign} has {array.ndim} dimensions, not {dimensions}: this is another kind of network"
        )
    for pattern, rows, only in ROWS:
        if re.fullmatch(pattern, name) and len(array) != rows:
            raise ConversionError(f"{foreign} has {len(array)} rows: only {only} is supported")


def adapt(name: str, array: np.ndarray, base: CodeBase) -> np.ndarray:
    """The array of a numbered name as it is here."""
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
    """Which rows of a classification are the classes', in the order of the data's categories, and a note on it."""
    if base.coco_rows and rows == base.coco_rows[0]:
        kept = list(base.coco_rows[1])
        return kept, f"of the {rows} rows of its classification, those of COCO's {len(kept)} categories"
    if base.background_row:
        return list(range(1, rows)), f"of the {rows} rows of its classification, all but the first, the background's"
    return list(range(rows)), ""


def make_implied(arrays: dict[str, np.ndarray], names: Mapping[str, str], base: CodeBase) -> dict[str, str]:
    """Add what the original computes without, by numbered name; return the reasons."""
    made: dict[str, str] = {}

    def make(name: str, array: np.ndarray, why: str) -> None:
        arrays[name], made[name] = array.astype(np.float32), why

    for name in list(names):
        layer, _, part = name.rpartition(".")
        if re.fullmatch(r"fcos_head\.\w+_tower\.\d+\.conv\.weight", name) and f"{layer}.bias" not in arrays:
            make(f"{layer}.bias", np.zeros(len(arrays[name])), "its convolutions before a norm have no bias: zeros")
        if part == "weight" and names[name].endswith("_bn_s") and f"{layer}._variance" not in arrays:
            why = "its norms have their statistics folded in: mean 0, variance 1"
            make(f"{layer}._mean", np.zeros(len(arrays[name])), why)
            make(f"{layer}._variance", np.full(len(arrays[name]), 1 - NORM_EPSILON), why)
    if CLASS_WEIGHT in arrays and not base.level_scales:
        for level in range(3, 8):
            make(f"fcos_head.p{level}_feat.scale_reg", np.ones(1), "its levels have no scales: ones")
    block = "backbone.res2.0"
    convs = {part for part in ("branch2b", "branch2c", "short", "pooled") if f"{block}.{part}.conv.weight" in arrays}
    if convs == {"branch2b"}:  # not a bottleneck
        channels = len(arrays[f"{block}.branch2b.conv.weight"])
        why = "its first shortcut has no convolution: one that gives what it takes"
        make(f"{block}.short.conv.weight", np.eye(channels)[:, :, None, None], why)
        for part, value in (("weight", 1), ("bias", 0), ("_mean", 0), ("_variance", 1 - NORM_EPSILON)):
            make(f"{block}.short.norm.{part}", np.full(channels, value, np.float64), why)
    return made
