"""Sigmoid focal loss: "Focal Loss for Dense Object Detection" (Lin et al., arXiv:1708.02002), section 3."""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.autograd import PyLayer


def focal_loss_sum(logits: list[Tensor], labels: Tensor, alpha: float, gamma: float) -> Tensor:
    """Sum of the focal loss over all locations and classes, a scalar.

    Args:
        logits: (N, C, H, W) of each level, before the sigmoid.
        labels: (N, R) int, 0 background or 1..C, level by level and row by row.
        alpha: weight of a location's own class; 1 - alpha is that of all others.
        gamma: how much less the easy ones count; not negative.
    """
    return FocalLossSum.apply(labels, alpha, gamma, *logits)


class FocalLossSum(PyLayer):
    """`focal_loss_sum`, with its gradient computed beside its value.

    Nearly all of the N x R x C terms say "not this class", so all are computed as if they did; then those that say
    "this class", one of each positive location, are put in their places. There are no one-hot labels, and there is no
    selection, whose size would have to travel from the device.
    """

    @staticmethod
    def forward(ctx, labels: Tensor, alpha: float, gamma: float, *logits: Tensor) -> Tensor:
        ctx.maps = [(level.shape, level.dtype, not level.stop_gradient) for level in logits]
        x = paddle.concat([level.flatten().astype("float32") for level in logits])
        own = own_class_index(labels, [level.shape for level in logits])
        positive = (labels > 0).reshape([-1])
        own_x = x.gather(own)

        # "This class" at x costs what "not this class" costs at -x.
        true_values, true_gradient = rejection_terms(-own_x, alpha, gamma)
        own_values, own_gradient = rejection_terms(own_x, 1.0 - alpha, gamma)
        values, gradient = rejection_terms(x, 1.0 - alpha, gamma)
        change = paddle.where(positive, true_values - own_values, paddle.zeros_like(own_values))
        paddle.scatter_(gradient, own, paddle.where(positive, -true_gradient, own_gradient))
        ctx.save_for_backward(gradient)
        return values.sum() + change.sum()

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple:
        (gradient,) = ctx.saved_tensor()
        parts, start = [], 0
        for shape, dtype, differentiable in ctx.maps:
            end = start + math.prod(shape)
            part = (gradient[start:end] * upstream).reshape(shape).astype(dtype) if differentiable else None
            parts.append(part)
            start = end
        return (None, *parts)


def own_class_index(labels: Tensor, shapes: list[list[int]]) -> Tensor:
    """Where each location's own logit is among those of all levels, level by level (N * C * H * W each).

    Returns:
        (N * R,) int64, image by image, each index once; of a background location, the logit of the first class.
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
    """Loss of saying "not this class" at logits x, weight * p^gamma * -ln(1 - p) with p = sigmoid(x), and its gradient.

    x is overwritten, and two more tensors of its size are all that is made: on a CPU new memory takes more time than
    the arithmetic.
    """
    loss = F.softplus(x)
    # ln p = x - softplus(x). The powers of p follow from it without a division, and without an infinity at any x.
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
