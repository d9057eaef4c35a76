"""A random choice between two lists of transforms."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.core.workspace import register, serializable
from ppdet.data.transforms.base import Transform, check_probability, has_property, takes_several
from ppdet.data.transforms.composing.compose import Compose
from ppdet.data.transforms.composing.order import STEPS, check_order


@register
@serializable
class RandomSelect(Transform):
    """Applies one of two lists of transforms to the image, drawn at random, as in DETR (arXiv:2005.12872, section 4).

    Its properties are those that all transforms of both lists have; it moves objects if one of them does. One of the
    two lists may be empty, which leaves the image as it is.

    Args:
        transforms1: transforms of single images, applied in turn with probability p.
        transforms2: the same, applied otherwise.
        p: probability of transforms1, from 0 to 1.
    """

    __inject__ = ["transforms1", "transforms2"]

    def __init__(self, *, transforms1: Sequence[Callable], transforms2: Sequence[Callable], p: float = 0.5) -> None:
        check_probability(p, "RandomSelect.p")
        members = [*transforms1, *transforms2]
        if not members:
            raise ValueError(
                "RandomSelect.transforms1 and transforms2 are both empty, expected a transform in one of them"
            )
        for transform in members:
            if has_property(transform, "takes_batch") or takes_several(transform):
                raise ValueError(
                    f"RandomSelect has {type(transform).__name__}, which takes several images, expected transforms of "
                    "single ones: list it outside of RandomSelect"
                )
        check_order(transforms1, "RandomSelect.transforms1")
        check_order(transforms2, "RandomSelect.transforms2")
        self.members = members
        self.transforms1, self.transforms2 = Compose(transforms1), Compose(transforms2)
        self.p = p
        self.keeps_uint8 = all(has_property(transform, "keeps_uint8") for transform in members)
        self.moves_pixels = all(has_property(transform, "moves_pixels") for transform in members)
        self.moves_objects = any(has_property(transform, "moves_objects") for transform in members)
        orders = {getattr(transform, "listed_before", "") for transform in members}
        self.listed_before = next((step for step in STEPS if step in orders), "")
        self.pixels_only = all(has_property(transform, "pixels_only") for transform in members)

    def __call__(self, sample: dict, rng: np.random.Generator) -> dict:
        return (self.transforms1 if rng.random() < self.p else self.transforms2)(sample, rng)

    def keep_largest(self) -> bool:
        return sum(one.keep_largest() for one in self.members if isinstance(one, Transform)) > 0
