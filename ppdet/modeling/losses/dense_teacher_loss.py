"""Dense pseudo-label loss: "Dense Teacher" (Zhou et al., ECCV 2022, arXiv:2207.02541), section 3."""

from collections.abc import Mapping
from types import MappingProxyType

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import Tensor, maximum, minimum, nn
from paddle.autograd import PyLayer

from ppdet.modeling.heads.fcos_head import DenseMaps
from ppdet.modeling.losses.focal import rejection_terms
from ppdet.modeling.mixed import Float32

# Read-only, so that one object can be every instance's default.
LOSS_WEIGHT = MappingProxyType({"distill_loss_cls": 4.0, "distill_loss_box": 1.0, "distill_loss_quality": 1.0})


class SSODFCOSLoss(nn.Layer):
    """How far a student's dense maps are from a teacher's.

    The k = M * ratio of all M locations (of all images and levels) where the teacher is surest of some class are
    selected. There the student is to say what the teacher says; at all others it is to say "no class". Of several
    ranks each selects from its own images; the class loss is divided by the mean of fg_sum over ranks.

    Args:
        ratio: part of the locations that is selected, above 0 and at most 1; one location at least.
        gamma: exponent of the quality focal loss, how much less the easy terms count; not negative.
        loss_weight: factor of each loss in the sum; those not named keep the default.

    Raises:
        ValueError: ratio or gamma is out of range, or loss_weight names an unknown loss.
    """

    def __init__(
        self, *, ratio: float = 0.01, gamma: float = 2.0, loss_weight: Mapping[str, float] = LOSS_WEIGHT
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f"SSODFCOSLoss.ratio is {ratio}; it must be above 0 and at most 1")
        if not gamma >= 0:
            raise ValueError(f"SSODFCOSLoss.gamma is {gamma}; it must not be negative")
        unknown = [name for name in loss_weight if name not in LOSS_WEIGHT]
        if unknown:
            raise ValueError(
                f"SSODFCOSLoss.loss_weight has {', '.join(map(repr, unknown))}; it takes {', '.join(LOSS_WEIGHT)}"
            )
        self.ratio = ratio
        self.gamma = gamma
        self.loss_weight = {**LOSS_WEIGHT, **loss_weight}

    def forward(self, student: DenseMaps, teacher: DenseMaps) -> dict:
        """Losses of a batch of unlabelled images.

        Args:
            student, teacher: maps of the same locations, distances in pixels. Nothing flows back to the teacher.

        Returns:
            Scalars distill_loss_cls, distill_loss_box, distill_loss_quality; loss, their weighted sum; and fg_sum, the
            teacher's best probabilities summed over the selected locations (mean over ranks), at least 1e-6.

        Raises:
            ValueError: the maps differ in shape.
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
        return {"loss": loss, **losses, "fg_sum": fg_sum}

    @paddle.no_grad()
    def pseudo_labels(self, teacher: DenseMaps) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What the student learns, and where.

        Returns:
            index (k,) of the selected locations in the order of `join_locations`; the teacher's class probabilities
            (k, C), distances (k, 4) and quality (k, 1) in 0..1 there; fg_sum, a scalar.
        """
        logits = join_locations(teacher.logits)
        # The order of logits is that of probabilities. k follows from shapes: nothing travels from the device.
        count = max(int(logits.shape[0] * self.ratio), 1)
        best, index = logits.max(axis=1).topk(count, sorted=False)
        fg_sum = F.sigmoid(best).sum()
        if dist.is_initialized():
            dist.all_reduce(fg_sum)
            fg_sum = fg_sum / dist.get_world_size()
        return (
            index,
            F.sigmoid(logits.gather(index)),
            join_locations(teacher.distances).gather(index),
            F.sigmoid(join_locations(teacher.quality).gather(index)),
            fg_sum.clip(min=1e-6),
        )


class QualityFocalSum(PyLayer):
    """Sum of the quality focal loss over all locations and classes, a scalar, its gradient computed beside its value.

    With p = sigmoid(logits) and t the target it is BCE(p, t) * |p - t|^gamma. Nearly all targets are 0, so all terms
    are computed as if they were; then the rows of the selected locations are put in their places.

    Args of `apply`:
        index: (k,) int64, the selected locations in the order of `join_locations`, each once.
        targets: (k, C) in 0..1, what they are to learn; the targets of all others are 0.
        gamma: not negative.
        logits: (N, C, H, W) of each level, before the sigmoid.
    """

    @staticmethod
    def forward(ctx, index: Tensor, targets: Tensor, gamma: float, *logits: Tensor) -> Tensor:
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
    def backward(ctx, upstream: Tensor) -> tuple:
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
    """BCE(p, t) * |p - t|^gamma of logits x with p = sigmoid(x) and targets t in 0..1, and its gradient."""
    probability = F.sigmoid(x)
    difference = probability - targets
    # At no difference, where the gradient is zero, a power below zero is to stay finite.
    distance = difference.abs().clip(min=1e-12)
    factor = distance**gamma
    entropy = F.binary_cross_entropy_with_logits(x, targets, reduction="none")
    # d/dx BCE = p - t, d/dx p = p * (1 - p)
    slope = gamma * distance ** (gamma - 1.0) * difference.sign() * probability * (1.0 - probability)
    return entropy * factor, factor * difference + entropy * slope


def giou(pred: Tensor, target: Tensor) -> Tensor:
    """GIoU (k,), -1..1, of boxes that share a location, from distances (k, 4), left, top, right, bottom, in pixels.

    As Rezatofighi et al. (arXiv:1902.09630) define it: nothing is added to the areas as `iou_and_giou` does. Of two
    boxes without area it is 0.
    """

    def area(distances: Tensor) -> Tensor:
        left, top, right, bottom = distances.unbind(axis=1)
        return (left + right) * (top + bottom)

    inter = area(minimum(pred, target))
    union = area(pred) + area(target) - inter
    hull = area(maximum(pred, target))
    return inter / union.clip(min=1e-7) - (hull - union) / hull.clip(min=1e-7)


def join_locations(maps: list[Tensor]) -> Tensor:
    """Join maps (N, K, H, W) of all levels to new memory (M, K) float32, level by level, image by image, row by row.

    Channels last, as maps lie in memory on a CPU: a location's values are one row, and joining is the only copy.
    """
    rows = [level.transpose([0, 2, 3, 1]).reshape([-1, level.shape[1]]).astype("float32") for level in maps]
    return paddle.concat(rows)
