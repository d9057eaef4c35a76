"""The loss of FCOS: focal loss of the classes, IoU loss of the boxes, cross entropy of the quality.

Sources: FCOS, arXiv:1904.01355, section 3.2, and arXiv:2006.09214, section 2.2; "Focal Loss for Dense Object Detection"
(Lin et al., arXiv:1708.02002), section 3; "UnitBox" (Yu et al., arXiv:1608.01471), section 3; GIoU (Rezatofighi et al.,
arXiv:1902.09630).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import Tensor, maximum, minimum, nn
from paddle.autograd import PyLayer

from ppdet.core.workspace import register, serializable
from ppdet.modeling.architectures.base import DenseMaps
from ppdet.utils.ranges import require_choice, require_number

IOU_LOSSES = ("giou", "linear_iou", "iou")


@register
@serializable
class FCOSLoss(nn.Layer):
    """The training loss of FCOS.

    Args:
        loss_alpha: alpha of the focal loss in 0..1: weight of a location's own class; 1 - alpha is the weight of all
            other classes.
        loss_gamma: gamma of the focal loss, 0 or more: how strongly easy terms are weighted down.
        iou_loss_type: loss of a box: `giou` is 1 - GIoU, `linear_iou` is 1 - IoU, `iou` is -ln IoU.
        reg_weights: factor of the box loss.
        quality: what the quality branch learns. `centerness`, which then also weights the box loss; or `iou`, the IoU
            of the predicted with the true box.
        iou_smoothing: added to intersection and union; 0 gives the plain IoU. It is in squared strides of the level if
            the distances are in strides, otherwise in squared pixels, see FCOSHead.norm_reg_targets.
        count_images: divide the class loss by positives + images; otherwise by the positives, or by 1 if there are
            none.
        label_smoothing: e in 0..1, below 1: a positive location's own class has the target 1 - e in place of 1
            (arXiv:1512.00567, section 7), so its term is 1 - e times that of "this class" plus e times that of "not
            this class". All other targets stay 0: at a target of e / 2, the focal loss of the background, nearly all
            terms, would no longer vanish at small probabilities.
        average_over_ranks: in distributed training, divide by the mean number of positives over all ranks, so that
            every object has the same weight; otherwise by each rank's own number.
    """

    def __init__(
        self,
        *,
        loss_alpha: float = 0.25,
        loss_gamma: float = 2.0,
        iou_loss_type: Literal["giou", "linear_iou", "iou"] = "giou",
        reg_weights: float = 1.0,
        quality: Literal["centerness", "iou"] = "centerness",
        iou_smoothing: float = 1.0,
        count_images: bool = False,
        label_smoothing: float = 0.0,
        average_over_ranks: bool = True,
    ) -> None:
        super().__init__()
        require_number("FCOSLoss.loss_alpha", loss_alpha, minimum=0, maximum=1)
        require_number("FCOSLoss.loss_gamma", loss_gamma, minimum=0, below=math.inf)
        require_number("FCOSLoss.reg_weights", reg_weights, minimum=0, below=math.inf)
        require_number("FCOSLoss.iou_smoothing", iou_smoothing, minimum=0, below=math.inf)
        require_number("FCOSLoss.label_smoothing", label_smoothing, minimum=0, below=1)
        require_choice("FCOSLoss.iou_loss_type", iou_loss_type, IOU_LOSSES)
        require_choice("FCOSLoss.quality", quality, ("centerness", "iou"))
        self.loss_alpha = loss_alpha
        self.loss_gamma = loss_gamma
        self.iou_loss_type = iou_loss_type
        self.reg_weights = reg_weights
        self.quality = quality
        self.iou_smoothing = iou_smoothing
        self.count_images = count_images
        self.label_smoothing = label_smoothing
        self.average_over_ranks = average_over_ranks

    def forward(
        self, maps: DenseMaps, targets: dict[str, Tensor], normalizers: tuple[Tensor, ...] | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            maps: predictions of the head.
            targets: `target_labels` (N, R), 0 for background or 1..C; `target_distances` (N, R, 4) in the unit of the
                maps; `target_centerness` (N, R) in 0..1.
            normalizers: the divisors from `normalizers`; None computes them from this batch.

        Returns:
            The scalars loss_cls, loss_box, loss_quality, and their sum loss. Also positives (L,), the number of
            positives of each level, and zero_sides (L, 4), how many of them have a predicted distance of zero to the
            left, top, right and bottom.
        """
        labels, centerness = targets["target_labels"], targets["target_centerness"]
        positive = labels > 0
        weight = positive.astype("float32")
        class_divisor, count, centerness_sum = self.normalizers([targets]) if normalizers is None else normalizers
        kind = (self.loss_alpha, self.loss_gamma)
        loss_cls = FocalLossSum.apply(labels, *kind, *maps.logits, smoothing=self.label_smoothing) / class_divisor

        # The distances of the background are replaced by 1 before the loss: 0 * infinity would be NaN, and selecting
        # the positives would make the CPU wait for the device to learn their number.
        pred, one = join_levels(maps.distances), paddle.ones([1])
        iou, giou = iou_and_giou(
            paddle.where(positive.unsqueeze(1), pred, one),
            paddle.where(positive.unsqueeze(1), targets["target_distances"].transpose([0, 2, 1]), one),
            self.iou_smoothing,
        )
        box_losses = iou_loss(iou, giou, self.iou_loss_type)
        if self.quality == "centerness":
            quality_target = centerness
            loss_box = (box_losses * (centerness * weight)).sum() / centerness_sum
        else:
            quality_target = iou.detach()
            loss_box = (box_losses * weight).sum() / count
        loss_box = loss_box * self.reg_weights
        quality = join_levels(maps.quality).squeeze(1)
        bce = F.binary_cross_entropy_with_logits(quality, quality_target, reduction="none")
        loss_quality = (bce * weight).sum() / count
        return {
            "loss": loss_cls + loss_box + loss_quality,
            "loss_cls": loss_cls,
            "loss_box": loss_box,
            "loss_quality": loss_quality,
            **count_zero_sides(pred, positive, [level.shape[2] * level.shape[3] for level in maps.distances]),
        }

    @paddle.no_grad()
    def normalizers(self, batches: Sequence[dict[str, Tensor]]) -> tuple[Tensor, ...]:
        """The divisors of the losses, as means over the batches, and over all ranks with `average_over_ranks`.

        Returns:
            Three scalars: the divisor of the class loss; the number of positives, at least 1; the sum of the
            positives' centerness, above 0.
        """
        sums = []
        for targets in batches:
            weight = (targets["target_labels"] > 0).astype("float32")
            images = paddle.full([], weight.shape[0], "float32")
            sums.append(paddle.stack([weight.sum(), (targets["target_centerness"] * weight).sum(), images]))
        mean = paddle.stack(sums).mean(axis=0)
        if self.average_over_ranks and dist.is_initialized():
            dist.all_reduce(mean)
            mean = mean / dist.get_world_size()
        positives = mean[0].clip(min=1.0)
        # The centerness of a positive location is positive: the minimum only replaces the 0 of no positives at all.
        return mean[0] + mean[2] if self.count_images else positives, positives, mean[1].clip(min=1e-6)


def join_levels(maps: list[Tensor]) -> Tensor:
    """Join the maps (N, K, H, W) of all levels to (N, K, R), level by level, row by row."""
    return paddle.concat([level.flatten(2) for level in maps], axis=2)


@paddle.no_grad()
def count_zero_sides(distances: Tensor, positive: Tensor, sizes: list[int]) -> dict[str, Tensor]:
    """`positives` and `zero_sides` of `FCOSLoss.forward`, as a dictionary.

    Args:
        distances, positive: (N, 4, R), and (N, R) bool.
        sizes: number of locations of each level.
    """
    mask = positive.unsqueeze(1)
    zero = paddle.logical_and(distances <= 0, mask)
    # (5, R): the number of positives at a location, then of those whose left, top, right, bottom is zero.
    counts = paddle.concat([mask, zero], axis=1).astype("float32").sum(axis=0)
    by_level = paddle.stack([level.sum(axis=1) for level in counts.split(sizes, axis=1)])
    return {"positives": by_level[:, 0], "zero_sides": by_level[:, 1:]}


class FocalLossSum(PyLayer):
    """The sum of the focal loss over all locations and classes, a scalar, with a gradient of its own.

    Nearly all of the N x R x C terms say "not this class". All terms are computed as if they said so. Then the terms
    that say "this class", one for each positive location, are corrected. This needs no one-hot labels, and no selection
    of the positives, for which the CPU would have to wait for the device.

    Args of `apply`:
        labels: (N, R) int, 0 for background or 1..C, level by level and row by row.
        alpha, gamma: see `FCOSLoss`.
        logits: (N, C, H, W) of each level, before the sigmoid.
        smoothing: see `FCOSLoss.label_smoothing`.
    """

    @staticmethod
    def forward(
        ctx: Any, labels: Tensor, alpha: float, gamma: float, *logits: Tensor, smoothing: float = 0.0
    ) -> Tensor:
        ctx.maps = [(level.shape, level.dtype, not level.stop_gradient) for level in logits]
        x = paddle.concat([level.flatten().astype("float32") for level in logits])
        own = own_class_index(labels, [level.shape for level in logits])
        positive = (labels > 0).reshape([-1])
        own_x = x.gather(own)

        # "This class" at logit x has the loss of "not this class" at -x.
        true_values, true_gradient = rejection_terms(-own_x, alpha, gamma)
        own_values, own_gradient = rejection_terms(own_x, 1.0 - alpha, gamma)
        values, gradient = rejection_terms(x, 1.0 - alpha, gamma)
        true_gradient = -true_gradient
        if smoothing:
            true_values = true_values.lerp(own_values, smoothing)
            true_gradient = true_gradient.lerp(own_gradient, smoothing)
        change = paddle.where(positive, true_values - own_values, paddle.zeros_like(own_values))
        paddle.scatter_(gradient, own, paddle.where(positive, true_gradient, own_gradient))
        ctx.save_for_backward(gradient)
        return values.sum() + change.sum()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensor()
        parts, start = [], 0
        for shape, dtype, differentiable in ctx.maps:
            end = start + math.prod(shape)
            part = (gradient[start:end] * upstream).reshape(shape).astype(dtype) if differentiable else None
            parts.append(part)
            start = end
        return (None, *parts)


def own_class_index(labels: Tensor, shapes: list[list[int]]) -> Tensor:
    """Index of the logit of each location's own class among the logits of all levels, joined as flat arrays.

    Args:
        labels: see `FocalLossSum`.
        shapes: (N, C, H, W) of each level.

    Returns:
        (N * R,) int64, image by image, each index once; for background it is the logit of the first class.
    """
    classes = (labels.astype("int64") - 1).clip(min=0)
    indices, start, location = [], 0, 0
    for images, channels, height, width in shapes:
        size = height * width
        image = paddle.arange(images, dtype="int64").unsqueeze(1) * channels
        own = (image + classes[:, location : location + size]) * size + paddle.arange(size, dtype="int64")
        indices.append(own + start)
        location += size
        start += images * channels * size
    return paddle.concat(indices, axis=1).flatten()


def rejection_terms(x: Tensor, weight: float, gamma: float) -> tuple[Tensor, Tensor]:
    """The focal loss of saying "not this class" at logits x, and its gradient.

    With p = sigmoid(x) the loss is weight * p^gamma * -ln(1 - p). x is overwritten, and only two new tensors of its
    size are made: on a CPU, allocating memory takes longer than the arithmetic.
    """
    loss = F.softplus(x)
    # ln p = x - softplus(x). The powers of p follow from it without a division, and are finite for every x.
    probability = x.subtract_(loss)
    factor = probability * gamma
    factor.exp_()
    factor.scale_(weight)
    probability.exp_()
    loss.multiply_(factor)
    # d/dx = factor * p + gamma * (1 - p) * loss
    factor.multiply_(probability)
    probability.scale_(-gamma, bias=gamma)
    probability.multiply_(loss)
    factor.add_(probability)
    return loss, factor


def overlap_areas(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of the intersection, the union and the hull of boxes that share a location.

    Args:
        pred, target: distances (N, 4, ...) to the left, top, right and bottom.
    """

    def area(distances: Tensor) -> Tensor:
        left, top, right, bottom = distances.unbind(axis=1)
        return (left + right) * (top + bottom)

    inter = area(minimum(pred, target))
    return inter, area(pred) + area(target) - inter, area(maximum(pred, target))


def iou_and_giou(pred: Tensor, target: Tensor, smoothing: float = 1.0) -> tuple[Tensor, Tensor]:
    """IoU in 0..1 and GIoU in -1..1, (N, M) each, from distances (N, 4, M).

    `smoothing` is added to intersection and union; the FCOS authors' code adds 1, so that boxes without area have an
    IoU. With 0, an IoU is at least 1e-6, so that its logarithm is finite; below that there is no gradient.
    """
    inter, union, hull = overlap_areas(pred, target)
    hull = hull + 1e-7
    if smoothing:
        iou = (inter + smoothing) / (union + smoothing)
        return iou, iou - (hull - union) / hull
    iou = inter / union.clip(min=1e-7)
    return iou.clip(min=1e-6), iou - (hull - union) / hull


def iou_loss(iou: Tensor, giou: Tensor, kind: str) -> Tensor:
    """The loss of each box; `kind` is a `FCOSLoss.iou_loss_type`."""
    if kind == "linear_iou":
        return 1.0 - iou
    if kind == "giou":
        return 1.0 - giou
    return -iou.log()
