"""IoU of boxes that share a location, from their distances to it.

Source: "UnitBox" (Yu et al., arXiv:1608.01471), section 3; GIoU: Rezatofighi et al., arXiv:1902.09630.
"""

from paddle import Tensor, maximum, minimum


def iou_and_giou(pred: Tensor, target: Tensor, smoothing: float = 1.0) -> tuple[Tensor, Tensor]:
    """IoU in 0..1 and GIoU in -1..1 of distances (N, 4, M), left, top, right, bottom; both (N, M).

    `smoothing` is added to intersection and union, 1 as the paper's implementation does: a box without area has an IoU.
    With 0, an IoU is 1e-6 at least, and has no gradient where that replaces it: its logarithm stays finite.
    """

    def area(distances: Tensor) -> Tensor:
        left, top, right, bottom = distances.unbind(axis=1)
        return (left + right) * (top + bottom)

    inter = area(minimum(pred, target))
    union = area(pred) + area(target) - inter
    hull = area(maximum(pred, target)) + 1e-7
    if smoothing:
        iou = (inter + smoothing) / (union + smoothing)
        return iou, iou - (hull - union) / hull
    iou = inter / union.clip(min=1e-7)
    return iou.clip(min=1e-6), iou - (hull - union) / hull


def iou_loss(iou: Tensor, giou: Tensor, kind: str) -> Tensor:
    """Loss of each box, (...): `linear_iou` is 1 - IoU, `giou` 1 - GIoU, `iou` -ln IoU."""
    if kind == "linear_iou":
        return 1.0 - iou
    if kind == "giou":
        return 1.0 - giou
    return -iou.log()


IOU_LOSSES = ("giou", "linear_iou", "iou")
