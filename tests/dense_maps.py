"""Maps of the head for tests, and detection from maps without a network."""

from collections.abc import Sequence

import numpy as np
import paddle

from ppdet.modeling.architectures.base import DenseMaps


def as_tensors(maps: Sequence[Sequence[np.ndarray]]) -> DenseMaps:
    """Maps of all levels, field by field."""
    return DenseMaps(*[[paddle.to_tensor(level) for level in field] for field in maps])


class Detect(paddle.nn.Layer):
    """A detector whose maps are given as arguments."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        super().__init__()
        self.model = model

    def forward(self, maps, scale_factor, im_shape):
        return self.model.detect(DenseMaps(*maps), scale_factor, im_shape)
