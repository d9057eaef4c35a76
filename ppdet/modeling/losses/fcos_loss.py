"""FCOS losses: arXiv:1904.01355, section 3.2, and arXiv:2006.09214, section 2.2."""

import math
from collections.abc import Sequence
from typing import Literal

import paddle
import paddle.distributed as dist
import paddle.nn.functional as F
from paddle import Tensor, nn

from ppdet.core.workspace import register, serializable
from ppdet.modeling.losses.focal import focal_loss_sum
from ppdet.modeling.losses.iou import IOU_LOSSES, iou_and_giou, iou_loss


@register
@serializable
class FCOSLoss(nn.Layer):
    """Focal loss on classes, IoU loss on boxes, cross entropy on quality.

    Args:
        loss_alpha, loss_gamma: of the focal loss (Lin et al., arXiv:1708.02002, equation 5).
        iou_loss_type: giou (1 - GIoU), linear_iou (1 - IoU) or iou (-ln IoU).
        iou_smoothing: added to intersection and union, in the unit of the distances' square; 0 for the plain IoU.
        reg_weights: factor of the box loss.
        quality: what the quality branch learns: `centerness`, which then also weights the box loss, or `iou`, the IoU
            of the predicted with the true box.
        count_images: the class loss is divided by the number of positives plus that of images; otherwise by that of
            positives, or by 1 if there are none.
        average_over_ranks: in a distributed run divide by the mean number of positives over ranks, so that every
            object weighs the same; false divides by each rank's own.
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
        average_over_ranks: bool = True,
    ) -> None:
        super().__init__()
        if iou_loss_type not in IOU_LOSSES:
            raise ValueError(f"FCOSLoss.iou_loss_type is {iou_loss_type!r}; it must be one of {', '.join(IOU_LOSSES)}")
        if quality not in ("centerness", "iou"):
            raise ValueError(f"FCOSLoss.quality is {quality!r}; it must be centerness or iou")
        if not 0 <= iou_smoothing < math.inf:
            raise ValueError(f"FCOSLoss.iou_smoothing is {iou_smoothing}; it must be 0 or more")
        self.loss_alpha = loss_alpha
        self.loss_gamma = loss_gamma
        self.iou_loss_type = iou_loss_type
        self.reg_weights = reg_weights
        self.quality = quality
        self.iou_smoothing = iou_smoothing
        self.count_images = count_images
        self.average_over_ranks = average_over_ranks

    def forward(self, maps, targets: dict, normalizers: tuple[Tensor, ...] | None = None) -> dict:
        """Losses of a batch.

        Args:
            maps: `DenseMaps` of the head.
            targets: target_labels (N, R), 0 background or 1..C; target_distances (N, R, 4) in the maps' unit;
                target_centerness (N, R) in 0..1.
            normalizers: what the sums are divided by, from `normalizers`; None: the batch's own.

        Returns:
            Scalars loss_cls, loss_box, loss_quality and their sum loss; and, for those who watch the training,
            positives (L,) and zero_sides (L, 4): how many positives each level has, and how many of them are
            predicted at distance zero on each side.
        """
        labels, centerness = targets["target_labels"], targets["target_centerness"]
        positive = labels > 0
        weight = positive.astype("float32")
        divisors = self.normalizers([targets]) if normalizers is None else normalizers
        class_divisor, count, centerness_sum = divisors
        loss_cls = focal_loss_sum(maps.logits, labels, self.loss_alpha, self.loss_gamma) / class_divisor

        # Background is replaced before anything is computed from it: no infinity that a factor 0 would turn into NaN,
        # and no selection, whose size would have to travel from the device.
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
    def normalizers(self, batches: Sequence[dict]) -> tuple[Tensor, ...]:
        """What the class loss is divided by; number of positives, at least 1; sum of their centerness, not 0.

        Means over the batches, and over ranks if asked: divided by them, the gradients of several batches add up to
        that of one large batch.
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
        # Centerness of a positive location is positive; the floor only replaces the zero of a batch without any.
        return mean[0] + mean[2] if self.count_images else positives, positives, mean[1].clip(min=1e-6)


def join_levels(maps: list[Tensor]) -> Tensor:
    """Join maps (N, K, H, W) of all levels to (N, K, R), level by level, row by row."""
    return paddle.concat([level.flatten(2) for level in maps], axis=2)


@paddle.no_grad()
def count_zero_sides(distances: Tensor, positive: Tensor, sizes: list[int]) -> dict:
    """See `FCOSLoss.forward`; distances (N, 4, R), positive (N, R), `sizes` the number of each level's locations."""
    mask = positive.unsqueeze(1)
    zero = paddle.logical_and(distances <= 0, mask)
    # (5, R): positives of a location, then those whose left, top, right, bottom is zero.
    counts = paddle.concat([mask, zero], axis=1).astype("float32").sum(axis=0)
    by_level = paddle.stack([level.sum(axis=1) for level in counts.split(sizes, axis=1)])
    return {"positives": by_level[:, 0], "zero_sides": by_level[:, 1:]}
