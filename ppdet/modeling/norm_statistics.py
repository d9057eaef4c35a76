"""Forward passes in training that leave the running statistics of batch norms as they are."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from paddle import nn

Statistics = Literal["shared", "separate", "frozen"]


@contextlib.contextmanager
def statistics_of(model: nn.Layer, kind: Statistics) -> Iterator[None]:
    """Within the block, the batch norms of `model` that train normalize the batches of its forward passes in this way.

    Args:
        kind: the statistics of a batch norm, with its running ones before the pass called r.
            shared: it normalizes with the batch's; r becomes momentum * r + (1 - momentum) * the batch's, as always.
            separate: it normalizes with the batch's; r stays.
            frozen: it normalizes with r; r stays. Scale and shift are trained in all three cases.
    """
    # Paddle's layers and those of ppdet.modeling.cpu read both attributes in each forward pass.
    name, value = ("_momentum", 1.0) if kind == "separate" else ("_use_global_stats", True)
    norms = []
    if kind != "shared":
        norms = [
            layer
            for layer in model.sublayers()
            if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm)) and layer.training and not layer._use_global_stats
        ]
    before = [getattr(norm, name) for norm in norms]
    try:
        for norm in norms:
            setattr(norm, name, value)
        yield
    finally:
        for norm, old in zip(norms, before):
            setattr(norm, name, old)
