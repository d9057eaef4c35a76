"""Checks that the parts of a detector, which may come from outside, fulfil the contracts of base.py.

Each failed check is a ConfigError of one line, in place of an error from deep inside a convolution.
"""

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import Tensor

from ppdet.core.contracts import require, with_article
from ppdet.modeling.architectures.base import DenseMaps, ShapeSpec
from ppdet.utils.errors import ConfigError

GUIDE = "(docs/EXTENDING.md)"


def require_levels(layer: Any, contract: type, place: str) -> list[ShapeSpec]:
    """Return the `out_shape` of a backbone or neck.

    Args:
        layer: the object that should fulfil `contract`, which is Backbone or Neck.
        place: where a configuration names it, such as "FCOS.backbone".

    Raises:
        ConfigError: a member of the contract is missing, or `out_shape` is no list of ShapeSpec, finest level first.
    """
    require(layer, contract, place)
    levels = layer.out_shape
    is_list = isinstance(levels, (list, tuple)) and len(levels) > 0
    if not is_list or not all(_is_spec(level) for level in levels):
        raise ConfigError(
            f"{place}: {type(layer).__name__}.out_shape is {levels!r:.80}; expected a list of ShapeSpec(channels, "
            f"stride) with whole numbers, one for each map that forward() returns {GUIDE}"
        )
    strides = [level.stride for level in levels]
    if strides != sorted(set(strides)):
        raise ConfigError(
            f"{place}: {type(layer).__name__}.out_shape has the strides {strides}; expected the finest level first, "
            f"which has the smallest stride {GUIDE}"
        )
    return list(levels)


def _is_spec(level: Any) -> bool:
    return isinstance(level, ShapeSpec) and all(isinstance(value, int) and value > 0 for value in level)


def check_levels(levels: Any, layer: Any, images: Tensor) -> None:
    """Raise ConfigError unless a backbone's or neck's maps of `images` (N, 3, H, W) match its `out_shape`.

    A stride that does not divide H or W is rounded up, as convolutions do. Nothing is checked in a static graph.
    """
    if not paddle.in_dynamic_mode():
        return
    count, _, height, width = images.shape
    expected = [(count, channels, -(-height // s), -(-width // s)) for channels, s in layer.out_shape]
    found = [tuple(level.shape) for level in levels] if _are_tensors(levels) else with_article(type(levels))
    if found != expected:
        raise ConfigError(
            f"{type(layer).__name__}.forward() returned {found} for images of {height}x{width}; expected a list of "
            f"maps {expected}, which follow from its out_shape {GUIDE}"
        )


def check_maps(maps: Any, head: Any, levels: Sequence[Tensor]) -> None:
    """Raise ConfigError unless a head's predictions for the neck's `levels` are DenseMaps of the same sizes."""
    if not paddle.in_dynamic_mode():
        return
    what = f"{type(head).__name__}.forward() returned"
    if not isinstance(maps, DenseMaps):
        raise ConfigError(f"{what} {with_article(type(maps))}; expected DenseMaps(logits, distances, quality) {GUIDE}")
    for name, channels in (("logits", None), ("distances", 4), ("quality", 1)):
        field = getattr(maps, name)
        found = [tuple(level.shape) for level in field] if _are_tensors(field) else [()]
        classes = found[0][1] if len(found[0]) == 4 else "C"
        expected = [(level.shape[0], channels or classes, *level.shape[2:]) for level in levels]
        if found != expected:
            raise ConfigError(f"{what} {name} of the shapes {found}; expected a list of maps {expected} {GUIDE}")


def _are_tensors(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(isinstance(value, Tensor) for value in values)
