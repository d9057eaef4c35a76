"""Non-maximum suppression."""

import paddle
from paddle import Tensor

from ppdet.core.workspace import register, serializable


@register
@serializable
class MultiClassNMS:
    """Non-maximum suppression class by class.

    Args:
        score_threshold: detections whose score is not above it are dropped before anything else. One below 0 counts as
            0, which is the score of what is no candidate, such as locations in padding.
        nms_top_k: best detections per class that enter suppression; -1 for all.
        keep_top_k: best detections per image, over all classes, that leave it; -1 for all.
        nms_threshold: IoU above which the lower-scored of two boxes of a class is suppressed.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.025,
        nms_top_k: int = 1000,
        keep_top_k: int = 100,
        nms_threshold: float = 0.6,
    ) -> None:
        self.score_threshold = max(score_threshold, 0.0)
        self.nms_top_k = nms_top_k
        self.keep_top_k = keep_top_k
        self.nms_threshold = nms_threshold

    def __call__(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Suppress boxes (N, R, 4), x1 y1 x2 y2, with scores (N, C, R) in 0..1.

        Returns rows (M, 6) of [class from 0, score, x1, y1, x2, y2], image by image, and their number per image (N,).
        """
        options = {
            "score_threshold": self.score_threshold,
            "nms_top_k": self.nms_top_k,
            "keep_top_k": self.keep_top_k,
            "nms_threshold": self.nms_threshold,
            "normalized": True,
            "nms_eta": 1.0,
            "background_label": -1,
        }
        if paddle.in_dynamic_mode() or in_pir_mode():
            rows, _, rows_per_image = paddle._C_ops.multiclass_nms3(boxes, scores, None, *options.values())
            return rows, rows_per_image
        return nms_in_program(boxes, scores, options)


def in_pir_mode() -> bool:
    """True while Paddle 3 records a static graph; Paddle 2.6 records another kind of program."""
    return hasattr(paddle.base.framework, "in_pir_mode") and paddle.base.framework.in_pir_mode()


def nms_in_program(boxes: Tensor, scores: Tensor, options: dict) -> tuple[Tensor, Tensor]:
    """Append the NMS operator to the program that Paddle 2.6 records."""
    helper = paddle.base.layer_helper.LayerHelper("multiclass_nms3")
    rows = helper.create_variable_for_type_inference(boxes.dtype)
    index = helper.create_variable_for_type_inference("int32")
    rows_per_image = helper.create_variable_for_type_inference("int32")
    helper.append_op(
        type="multiclass_nms3",
        inputs={"BBoxes": boxes, "Scores": scores},
        outputs={"Out": rows, "Index": index, "NmsRoisNum": rows_per_image},
        attrs=options,
    )
    return rows, rows_per_image
