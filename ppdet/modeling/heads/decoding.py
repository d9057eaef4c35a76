"""Decoding: from a head's maps to the boxes and scores that enter NMS (arXiv:1904.01355, section 3.1).

With a location (x, y) and its distances l, t, r, b, the box is (x - l, y - t, x + r, y + b); a class's score is its
probability x the location's quality.
"""

import dataclasses
import math
from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from ppdet.modeling.architectures.base import Candidates, DenseMaps
from ppdet.modeling.nms import recorded_shape
from ppdet.utils.locations import LevelGrid, Locations


@dataclasses.dataclass(kw_only=True)
class Decoder:
    """Decodes maps with distances in pixels.

    Attributes:
        locations: the grid of the maps.
        sqrt_score, class_threshold, level_top_k, level_top_k_of, clip_boxes: see `FCOSHead`.
    """

    locations: Locations = dataclasses.field(kw_only=False)
    sqrt_score: bool = False
    class_threshold: float | None = None
    level_top_k: int | None = None
    level_top_k_of: str = "locations"
    clip_boxes: bool = False

    def decode(
        self,
        maps: DenseMaps,
        im_shape: Tensor | None = None,
        *,
        score_threshold: float | None = None,
        every_location: bool = False,
    ) -> Candidates:
        """Candidates in pixels of the network's input; for the arguments see `DenseHead.decode`.

        Without level_top_k, they are in the order of the locations. With it, each level has exactly level_top_k
        candidates, the best first; where a level has fewer, the rest have scores of 0.
        """
        if every_location:
            return dataclasses.replace(self, class_threshold=None, level_top_k=None).decode(maps, im_shape)
        grids = self.locations.levels_of(maps.logits)
        quality = [F.sigmoid(level) for level in maps.quality]
        if im_shape is not None:
            # The padding is masked here, since quality is the smallest factor of the scores; and after the sigmoid,
            # since the sigmoid of an engine may not reach 0.
            quality = [q * grid.inside(im_shape) for q, grid in zip(quality, grids)]
        levels = zip(maps.logits, maps.distances, quality, grids)
        if self.level_top_k:
            decoded = [self.decode_top_k(*level, self.level_top_k) for level in levels]
        elif score_threshold is None:
            decoded = [self.decode_all(*level) for level in levels]
        else:
            decoded = [self.decode_above(*level, score_threshold) for level in levels]
        boxes, scores = zip(*decoded)
        boxes = self.clip(paddle.concat(boxes, axis=1), im_shape)
        return Candidates(boxes, paddle.concat(scores, axis=2), max_per_class=self.max_per_class(maps.logits))

    def decode_all(self, logits: Tensor, distances: Tensor, quality: Tensor, grid: LevelGrid) -> tuple[Tensor, Tensor]:
        """Boxes (N, H W, 4) and scores (N, C, H W) of one level.

        Args:
            logits, distances, quality: (N, C, H, W), (N, 4, H, W) in pixels, and (N, 1, H, W) in 0..1.
            grid: the level's locations.
        """
        x, y = grid.axes()
        left, top, right, bottom = distances.unbind(axis=1)
        # x - -right is exactly x + right. Engines that compute in 16 bits choose operators by name: they can leave
        # subtraction in float32 while the network adds in 16 bits.
        boxes = paddle.stack([x - left, y - top, x - -right, y - -bottom], axis=-1).flatten(1, 2)
        return boxes, self.score(logits.flatten(2), quality.flatten(2))

    def decode_above(
        self, logits: Tensor, distances: Tensor, quality: Tensor, grid: LevelGrid, score_threshold: float
    ) -> tuple[Tensor, Tensor]:
        """As `decode_all`, but only the K locations where NMS may find a detection: (N, K, 4) and (N, C, K)."""
        logits, distances, quality = (channels_last(level) for level in (logits, distances, quality))
        # The best score of a location follows from its best logit, without computing the scores of the other classes.
        best_score = self.score(logits.max(axis=2), quality.squeeze(2)).max(axis=0)
        # NMS applies the exact threshold. This one is a little lower, so that rounding does not matter; but not below
        # 0, which is the score in the padding and of classes below class_threshold.
        index = paddle.nonzero(best_score > max(score_threshold - 1e-4, 0.0)).flatten()
        if index.shape[0] == 0:  # not every operator accepts an empty tensor
            index = best_score.argmax(keepdim=True)
        logits, distances, quality = (rows.gather(index, axis=1) for rows in (logits, distances, quality))
        return boxes_at(grid.at(index), distances), self.score(logits, quality).transpose([0, 2, 1])

    def decode_top_k(
        self, logits: Tensor, distances: Tensor, quality: Tensor, grid: LevelGrid, count: int
    ) -> tuple[Tensor, Tensor]:
        """As `decode_all`, but only the `count` best candidates of each image: (N, count, 4) and (N, C, count)."""
        logits, distances, quality = (channels_last(level) for level in (logits, distances, quality))
        best_logits, best_quality = logits.max(axis=2), quality.squeeze(2)
        of_classes = self.level_top_k_of == "classes"
        # The top-k pairs of location and class are among the classes of the top-k locations.
        value = self.score(best_logits, best_quality) if of_classes else F.sigmoid(best_logits) * best_quality
        index, exists = top_locations(value, count)
        boxes = boxes_at(grid.at(index), gather_rows(distances, index))
        scores = self.score(gather_rows(logits, index), gather_rows(quality, index)).transpose(
            [0, 2, 1]
        ) * exists.unsqueeze(1)
        return top_classes(boxes, scores, count) if of_classes else (boxes, scores)

    def score(self, logits: Tensor, quality: Tensor) -> Tensor:
        """Scores in 0..1 from logits, and quality in 0..1 of a shape that broadcasts to theirs."""
        score = F.sigmoid(logits) * quality
        score = score.sqrt() if self.sqrt_score else score
        if self.class_threshold is None:
            return score
        # Logits are compared, since the last bit of a sigmoid depends on the position in the tensor.
        passes = logits > math.log(self.class_threshold / (1 - self.class_threshold))
        return score * passes.astype("float32")

    def clip(self, boxes: Tensor, im_shape: Tensor | None) -> Tensor:
        """Boxes (N, R, 4), cut at the borders of the images without padding if `clip_boxes` is set."""
        if not self.clip_boxes:
            return boxes
        if im_shape is None:
            raise ValueError("FCOSHead.clip_boxes needs im_shape, the images' sizes without padding, in the batch")
        end = im_shape.flip(1) - float(self.locations.last_pixel)
        return paddle.minimum(boxes.clip(min=0.0), paddle.concat([end, end], axis=1).unsqueeze(1))

    def max_per_class(self, logits: Sequence[Tensor]) -> int | None:
        """See `Candidates`; None while a static graph for any size is recorded. logits: (N, C, H, W) of each level."""
        sizes = [recorded_shape(level)[2:] for level in logits]
        if min(map(min, sizes)) < 0:
            return None
        return sum(min(height * width, self.level_top_k or height * width) for height, width in sizes)


def channels_last(level: Tensor) -> Tensor:
    """A map (N, K, H, W) as (N, H W, K), which is its layout in memory on a CPU."""
    return level.transpose([0, 2, 3, 1]).flatten(1, 2)


def boxes_at(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes (N, K, 4) from locations (N, K, 2) or (K, 2) and distances (N, K, 4), by subtraction as in `decode_all`."""
    return paddle.concat([points - distances[:, :, :2], points - -distances[:, :, 2:]], axis=2)


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """The rows (N, J, K) at index (N, J) of rows (N, R, K)."""
    return paddle.take_along_axis(rows, index.unsqueeze(2).expand([-1, -1, rows.shape[2]]), 1, broadcast=False)


def top_locations(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Top-k of values (N, R), 0 or more: indices (N, count), largest value first, and which of them exist.

    A value of 0 is no candidate. Where fewer than `count` values are above 0, the second result, (N, count) float32, is
    0 and the index is arbitrary. While a static graph is recorded, R is unknown and may be less than `count`.
    """
    locations = values.shape[1] if paddle.in_dynamic_mode() else paddle.shape(values)[1].astype("int64")
    zeros = (values[:, :1] * 0.0).expand([-1, count])
    best, index = paddle.concat([values, zeros], axis=1).topk(count, axis=1)
    return index % locations, (best > 0.0).astype("float32")


def top_classes(boxes: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The top-k pairs of box and class, out of boxes (N, count, 4) with scores (N, C, count).

    Returns:
        Boxes (N, count, 4), in which a box with several good classes appears several times, and scores (N, C, count),
        which are 0 except for the one class of each pair.
    """
    values, index = scores.flatten(1).topk(count, axis=1)
    own = (index // count).unsqueeze(1) == paddle.arange(scores.shape[1], dtype="int64").reshape([1, -1, 1])
    return gather_rows(boxes, index % count), values.unsqueeze(1) * own.astype("float32")
