"""The operations in the list Preprocess of infer_cfg.yml, and the transforms that they name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ppdet.core.extensions import load_entry_points
from ppdet.core.registry import get_schema, is_component
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.geometry.resize import Resize, as_pair
from ppdet.data.transforms.normalize import LARGEST, NormalizeImage, Permute
from ppdet.utils.errors import DataError, DeployError


class Pad:
    """Pads an image (H, W, 3) at the bottom and on the right to `size`, with a color.

    Exports of PaddleDetection have it before NormalizeImage.

    Args:
        size: height and width in pixels, or one number for both.
        fill_value: the color, one number per channel in the pixels' range, such as 114 of 0..255.
    """

    def __init__(self, *, size: int | Sequence[int], fill_value: Sequence[float] = (114.0, 114.0, 114.0)) -> None:
        self.size = as_pair(size, "size")
        with np.errstate(over="ignore"):
            self.fill_value = np.asarray(fill_value, dtype=np.float32)
        if self.fill_value.shape != (3,) or not (np.abs(self.fill_value) <= LARGEST).all():
            raise ValueError(f"fill_value is {fill_value!r:.100}; expected three numbers of at most {LARGEST:g}")

    def __call__(self, sample: dict, rng: np.random.Generator | None = None) -> dict:
        image = sample["image"]
        h, w = image.shape[:2]
        if h > self.size[0] or w > self.size[1]:
            raise DataError(f"Pad: an image of {h} x {w} does not fit into {self.size[0]} x {self.size[1]}")
        # A color that the image's type cannot represent, such as 114.5 in uint8, makes the image float32.
        exact = (self.fill_value.astype(image.dtype) == self.fill_value).all()
        padded = np.empty((*self.size, 3), dtype=image.dtype if exact else np.float32)
        padded[:] = self.fill_value
        padded[:h, :w] = image
        sample["image"] = padded
        return sample


OPERATIONS: dict[str, Callable] = {
    "Resize": Resize,
    "NormalizeImage": NormalizeImage,
    "Permute": Permute,
    "Pad": Pad,
    "PadStride": lambda stride=0, size=None: PadBatch(pad_to_stride=stride, pad_to_size=size),
}
# Options that exports of some PaddleDetection versions spell out. The operations here always behave like this.
FIXED_OPTIONS = {"NormalizeImage": {"is_channel_first": False}, "Permute": {"to_bgr": False, "channel_first": True}}


def entry_of(transform: Any) -> dict[str, Any]:
    """Return the entry of the list Preprocess from which `make_operation` builds a transform from outside.

    The parameters of its constructor are read from its attributes of the same names.

    Raises:
        DeployError: the transform is not a component from outside, or lacks such an attribute.
    """
    cls = type(transform)
    what = f"TestReader: {cls.__name__} cannot be exported"
    if cls.__module__.startswith("ppdet.") or not is_component(cls.__name__):
        raise DeployError(
            f"{what}; Decode, Resize, NormalizeImage, Permute, PadBatch, and registered transforms of your own can"
        )
    parameters = get_schema(cls.__name__).parameters
    missing = [name for name in parameters if not hasattr(transform, name)]
    if missing:
        raise DeployError(f"{what}: keep its parameter {missing[0]} as self.{missing[0]} (docs/EXTENDING.md)")
    return {"type": cls.__name__, **{name: getattr(transform, name) for name in parameters}}


def modules_of(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return the modules from outside that the transforms of a list Preprocess come from, for `requires`."""
    own = (entry["type"] for entry in entries if entry["type"] not in OPERATIONS)
    return list(dict.fromkeys(get_schema(name).cls.__module__ for name in own))


def make_operation(entry: Any, settings: Mapping[str, Any]) -> Callable:
    """Build the transform for an entry of the list Preprocess, such as {type: Resize, target_size: [640, 640]}.

    Raises:
        DeployError: its type or an option is unknown.
    """
    options = dict(entry) if isinstance(entry, dict) else {}
    kind = options.pop("type", None)
    build = OPERATIONS.get(kind) if isinstance(kind, str) else None
    if build is None:
        load_entry_points()
    if build is None and is_component(kind):
        cls = get_schema(kind).cls
        # A file from a stranger may name components that the user has imported, but no other component of ppdet.
        build = None if cls.__module__.startswith("ppdet.") else cls
    if build is None:
        requires = " ".join(f"--import {name}" for name in settings.get("requires") or [])
        advice = f"give {requires}" if requires else f"expected one of {', '.join(OPERATIONS)}"
        raise DeployError(f"infer_cfg.yml: Preprocess has {kind!s:.60}; {advice}")
    fixed = FIXED_OPTIONS.get(kind, {})
    options = {key: value for key, value in options.items() if key not in fixed or value != fixed[key]}
    try:
        return build(**options)
    except (TypeError, ValueError, OverflowError) as error:
        raise DeployError(f"infer_cfg.yml: Preprocess: {kind}: {error!s:.500} (of {options!s:.300})") from None
