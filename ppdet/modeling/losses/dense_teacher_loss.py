"""The loss of Dense Teacher on unlabeled images (Zhou et al., arXiv:2207.02541, section 3)."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.losses.fcos_loss import overlap_areas, rejection_terms
from ppdet.modeling.mixed import Float32
from ppdet.utils.ranges import require_choice, require_number

# It is read-only, so that one object can be every instance's default.
LOSS_WEIGHT = MappingProxyType({"distill_loss_cls": 4.0, "distill_loss_box": 1.0, "distill_loss_quality": 1.0})


class SSODFCOSLoss(nn.Layer):
    """The difference between a student's and a teacher's dense maps.

    Out of all M locations of all images and levels, the k = M * ratio locations with the teacher's largest class
    probabilities are selected, see `select_locations`. There the student learns the teacher's maps; at all others it
    learns "no class". Every rank selects from its own images.

    Args:
        ratio: share of the locations that is selected, above 0 and at most 1; at least one location is. `auto`: the
            attribute of the same name has a share for each class, None until it is set; their sum is then among the
            losses, for the log.
        gamma: exponent of the quality focal loss, 0 or more: how strongly easy terms are weighted down.
        loss_weight: factor of each loss in the sum. Losses that are not named keep their default.

    Raises:
        ValueError: ratio or gamma is out of range, or loss_weight names an unknown loss.
    """

    def __init__(
        self,
        *,
        ratio: float | Literal["auto"] = 0.01,
        gamma: float = 2.0,
        loss_weight: Mapping[str, float] = LOSS_WEIGHT,
    ) -> None:
        super().__init__()
        if isinstance(ratio, str):
            require_choice("SSODFCOSLoss.ratio", ratio, ("auto",))
        else:
            require_number("SSODFCOSLoss.ratio", ratio, above=0, maximum=1)
        require_number("SSODFCOSLoss.gamma", gamma, minimum=0)
        unknown = [name for name in loss_weight if name not in LOSS_WEIGHT]
        if unknown:
            raise ValueError(
                f"SSODFCOSLoss.loss_weight has {', '.join(map(repr, unknown))}; it takes {', '.join(LOSS_WEIGHT)}"
            )
        self.ratio: float | Sequence[float] | None = None if isinstance(ratio, str) else ratio
        self.gamma = gamma
        self.loss_weight = {**LOSS_WEIGHT, **loss_weight}

    def forward(self, student: DenseMaps, teacher: DenseMaps) -> dict[str, Tensor]:
        """Losses of a batch of unlabeled images.

        Args:
            student, teacher: maps of the same locations, distances in pixels. No gradient flows to the teacher.

        Returns:
            The scalars distill_loss_cls, distill_loss_box, distill_loss_quality; their weighted sum loss; and fg_sum,
            the sum of the teacher's largest class probabilities at the selected locations (mean over ranks), at least
            1e-6. The class loss is divided by fg_sum. With ratio `auto` also the scalar ratio.

        Raises:
            ValueError: the maps differ in shape, or ratio is `auto` and the attribute has not been set.
        """
        shapes = [[list(level.shape) for level in maps.logits] for maps in (student, teacher)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the student's logits are {shapes[0]}, the teacher's {shapes[1]}: both must see the same images at "
                "the same size"
            )
        with Float32():
            index, probabilities, distances, quality, fg_sum = self.pseudo_labels(teacher)
            losses = {
                "distill_loss_cls": QualityFocalSum.apply(index, probabilities, self.gamma, *student.logits) / fg_sum,
                "distill_loss_box": (1.0 - giou(join_locations(student.distances).gather(index), distances)).mean(),
                "distill_loss_quality": F.binary_cross_entropy_with_logits(
                    join_locations(student.quality).gather(index), quality
                ),
            }
            loss = sum(losses[name] * weight for name, weight in self.loss_weight.items())
        losses = {"loss": loss, **losses, "fg_sum": fg_sum}
        if isinstance(self.ratio, Sequence):
            losses["ratio"] = paddle.full([], min(1.0, sum(self.ratio)), "float32")
        return losses

    @paddle.no_grad()
    def pseudo_labels(self, teacher: DenseMaps) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The selected locations and the teacher's maps there.

        Returns:
            The index (k,) of the selected locations in the order of `join_locations`; class probabilities (k, C),
            distances (k, 4) and quality (k, 1) in 0..1 there; and fg_sum, see `forward`.
        """
        if self.ratio is None:
            raise ValueError("SSODFCOSLoss.ratio is auto: set the attribute ratio before the first batch")
        logits = join_locations(teacher.logits)
        index = select_locations(logits, self.ratio)
        probabilities = F.sigmoid(logits.gather(index))
        fg_sum = probabilities.max(axis=1).sum()
        if dist.is_initialized():
            dist.all_reduce(fg_sum)
            fg_sum = fg_sum / dist.get_world_size()
        return (
            index,
            probabilities,
            join_locations(teacher.distances).gather(index),
            F.sigmoid(join_locations(teacher.quality).gather(index)),
            fg_sum.clip(min=1e-6),
        )


def select_locations(logits: Tensor, ratio: float | Sequence[float]) -> Tensor:
    """Select the locations where a teacher is most confident that there is an object.

    One share selects the locations with the largest class probabilities. A share for each class keeps rare classes,
    and those with low scores, from being outranked by the others: class c would select its ceil(M * ratio[c]) best
    locations, the last of which has the logit t[c]. Locations are ranked by their largest difference of a logit from
    its t[c], and the k best are selected, where k is the sum over the classes. They are the classes' own locations,
    and where classes share some, the next best ones.

    k follows from the shapes alone, so that the CPU need not wait for the device.

    Args:
        logits: (M, C) of all locations, before the sigmoid, whose order is that of probabilities.
        ratio: a share, above 0 and at most 1, of all classes together; or C shares from 0 to 1.

    Returns:
        index (k,) int64, each location once; at least one location.
    """
    locations = logits.shape[0]
    if isinstance(ratio, (int, float)):
        return logits.max(axis=1).topk(max(int(locations * ratio), 1), sorted=False)[1]
    counts = [min(math.ceil(locations * share), locations) for share in ratio]
    if not any(counts):
        return select_locations(logits, 1.0 / locations)
    last = paddle.to_tensor([[max(count - 1, 0) for count in counts]])
    thresholds = paddle.take_along_axis(logits.topk(max(counts), axis=0)[0], last, axis=0)
    never = paddle.to_tensor([[not count for count in counts]])
    above = paddle.where(never, paddle.full_like(thresholds, -math.inf), logits - thresholds)
    return above.max(axis=1).topk(min(sum(counts), locations), sorted=False)[1]


class QualityFocalSum(PyLayer):
    """The sum of the quality focal loss over all locations and classes, a scalar, with a gradient of its own.

    With p = sigmoid(logits) and target t, the loss is BCE(p, t) * |p - t|^gamma. Nearly all targets are 0. All terms
    are computed as if their target was 0; then the terms of the selected locations are replaced.

    Args of `apply`:
        index: (k,) int64, the selected locations in the order of `join_locations`, each once.
        targets: (k, C) in 0..1, their targets; the targets of all other locations are 0.
        gamma: 0 or more.
        logits: (N, C, H, W) of each level, before the sigmoid.
    """

    @staticmethod
    def forward(ctx: Any, index: Tensor, targets: Tensor, gamma: float, *logits: Tensor) -> Tensor:
        ctx.maps = [(level.shape, level.dtype, not level.stop_gradient) for level in logits]
        x = join_locations(logits)
        selected = x.gather(index)
        values, gradient = rejection_terms(x, 1.0, gamma)
        selected_values, selected_gradient = imitation_terms(selected, targets, gamma)
        paddle.scatter_(values, index, selected_values)
        paddle.scatter_(gradient, index, selected_gradient)
        ctx.save_for_backward(gradient)
        return values.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensor()
        parts, start = [], 0
        for (images, channels, height, width), dtype, differentiable in ctx.maps:
            end = start + images * height * width
            part = None
            if differentiable:
                part = (gradient[start:end] * upstream).astype(dtype)
                part = part.reshape([images, height, width, channels]).transpose([0, 3, 1, 2])
            parts.append(part)
            start = end
        return (None, None, *parts)


def imitation_terms(x: Tensor, targets: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """The quality focal loss BCE(p, t) * |p - t|^gamma, with p = sigmoid(x) and targets t in 0..1, and its gradient."""
    probability = F.sigmoid(x)
    difference = probability - targets
    # The minimum keeps distance^(gamma - 1) finite where there is no difference; the gradient is 0 there.
    distance = difference.abs().clip(min=1e-12)
    factor = distance**gamma
    entropy = F.binary_cross_entropy_with_logits(x, targets, reduction="none")
    # d/dx BCE = p - t, d/dx p = p * (1 - p)
    slope = gamma * distance ** (gamma - 1.0) * difference.sign() * probability * (1.0 - probability)
    return entropy * factor, factor * difference + entropy * slope


def giou(pred: Tensor, target: Tensor) -> Tensor:
    """GIoU (k,) in -1..1 from distances (k, 4) in pixels, without the smoothing of `iou_and_giou`.

    It is the definition of Rezatofighi et al. (arXiv:1902.09630); for two boxes without area it is 0.
    """
    inter, union, hull = overlap_areas(pred, target)
    return inter / union.clip(min=1e-7) - (hull - union) / hull.clip(min=1e-7)


def join_locations(maps: Sequence[Tensor]) -> Tensor:
    """Copy the maps (N, K, H, W) of all levels to one (M, K) float32, level by level, image by image, row by row.

    Channels come last, which is the layout of maps in memory on a CPU, so that this is the only copy.
    """
    rows = [level.transpose([0, 2, 3, 1]).reshape([-1, level.shape[1]]).astype("float32") for level in maps]
    return paddle.concat(rows)
