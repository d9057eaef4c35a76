"""The best of a level's locations, or of the classes at them: what enters suppression of each image."""

from collections.abc import Sequence

import paddle
from paddle import Tensor

from ppdet.modeling.nms import recorded_shape


def best_locations(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where the largest of values (N, R), not negative, are: index (N, count), largest first, and whether it is one.

    What is 0 is no candidate. Where fewer than count are left, the other places have a 0 in (N, count) and any index;
    an exported graph knows R only when it runs.
    """
    locations = values.shape[1] if paddle.in_dynamic_mode() else paddle.shape(values)[1].astype("int64")
    zeros = (values[:, :1] * 0.0).expand([-1, count])
    best, index = paddle.concat([values, zeros], axis=1).topk(count, axis=1)
    return index % locations, (best > 0.0).astype("float32")


def take(rows: Tensor, index: Tensor) -> Tensor:
    """rows (N, R, K) at index (N, J): (N, J, K)."""
    return paddle.take_along_axis(rows, index.unsqueeze(2).expand([-1, -1, rows.shape[2]]), 1, broadcast=False)


def best_classes(boxes: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of `count` boxes (N, count, 4) with scores (N, C, count) as many best classes at them, each with its own box.

    Returns boxes (N, count, 4) and scores (N, C, count), 0 but for the one class of each.
    """
    values, index = scores.flatten(1).topk(count, axis=1)
    own = (index // count).unsqueeze(1) == paddle.arange(scores.shape[1], dtype="int64").reshape([1, -1, 1])
    return take(boxes, index % count), values.unsqueeze(1) * own.astype("float32")


def most_of_a_class(logits: Sequence[Tensor], count: int | None) -> int | None:
    """How many detections of one class suppression of an image can get: one of each location, of each level's `count`
    best where that is a number. None where only the run of a graph knows the sizes.

    Args:
        logits: (N, C, H, W) of each level.
    """
    sizes = [recorded_shape(level_map)[2:] for level_map in logits]
    if min(map(min, sizes)) < 0:
        return None
    return sum(min(height * width, count or height * width) for height, width in sizes)
