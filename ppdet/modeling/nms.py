"""Non-maximum suppression.

One call of Paddle's operator that all its kernels compute, and compute the same way: those of a CPU, of a GPU (whose
conditions are in paddle/phi/kernels/gpu/multiclass_nms3_kernel.cu, the same in Paddle 2.6 and 3) and of an XPU.
"""

import math
from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.core.workspace import register, serializable

# The GPU kernel takes as many boxes of a class; it leaves a larger `nms_top_k`, or one below 0, to the CPU's kernel.
GPU_TOP_K = 4096
# `nms_eta` below 1 lowers the IoU threshold from box to box. 1 and all above leave it as it is, but any other than 1
# makes the GPU kernel leave the work to the CPU's.
CONSTANT_THRESHOLD, CONSTANT_THRESHOLD_ON_CPU = 1.0, 1.0 + 2**-20


class Arguments(NamedTuple):
    """How the operator is called: after so many empty boxes were added to an image's own."""

    empty_boxes: int
    nms_top_k: int
    keep_top_k: int
    nms_eta: float


@register
@serializable
class MultiClassNMS:
    """Non-maximum suppression class by class.

    Args:
        score_threshold: detections whose score is not above it are dropped before anything else. One below 0 counts as
            0, which is the score of what is no candidate, such as locations in padding; one above 1 as 1.
        nms_top_k: best detections per class that enter suppression; -1 for all. A GPU hands suppression over to the
            CPU, which takes longer, where more than 4096 may enter.
        keep_top_k: best detections per image, over all classes, that leave it; -1 for all, which a GPU hands over to
            the CPU too, as it does more than 4096.
        nms_threshold: IoU above which the lower-scored of two boxes of a class is suppressed.

    Raises:
        ValueError: a number is 0 or below -1, or a threshold is not a number.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.025,
        nms_top_k: int = 1000,
        keep_top_k: int = 100,
        nms_threshold: float = 0.6,
    ) -> None:
        for name, value in (("nms_top_k", nms_top_k), ("keep_top_k", keep_top_k)):
            if value < 1 and value != -1:
                raise ValueError(f"MultiClassNMS.{name} is {value}; it must be positive, or -1 for all")
        for name, value in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
            if math.isnan(value):
                raise ValueError(f"MultiClassNMS.{name} is {value}; it must be a number, of 0 to 1")
        # The extra image's score is above it by 1, which is to be so in float32, too.
        self.score_threshold = min(max(score_threshold, 0.0), 1.0)
        self.nms_top_k = nms_top_k
        self.keep_top_k = keep_top_k
        self.nms_threshold = nms_threshold

    def __call__(
        self, boxes: Tensor, scores: Tensor, nms_offset: Tensor | None = None, max_per_class: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Suppress boxes (N, R, 4), x1 y1 x2 y2, with scores (N, C, R) in 0..1.

        nms_offset: (N, 4), what is added to all boxes of an image while their overlap is computed; None: nothing.
        max_per_class: how many scores of an image and class can be above 0, where that is known; None: R.

        Returns rows (M, 6) of [class from 0, score, x1, y1, x2, y2], image by image, and their number per image (N,).
        Within an image a CPU sorts them by class and then by score, a GPU by score alone.
        """
        arguments = self.arguments(recorded_shape(scores)[2], max_per_class)
        # By subtraction, which engines that compute in 16 bits are told to do in float32.
        suppressed = boxes if nms_offset is None else boxes - -nms_offset.unsqueeze(1)
        inputs = with_extra_image(suppressed, scores, arguments.empty_boxes, self.score_threshold + 1.0)
        rows, counts = self.operator(*inputs, arguments)
        if nms_offset is not None:
            # Before the extra image's row goes: with it there is one to compute with.
            offset = paddle.concat([nms_offset, nms_offset[:1] * 0.0])
            offset = paddle.concat([offset[:, :2] * 0.0, offset], axis=1)
            rows = rows - offset.gather(owners(rows, counts))
        return all_but_last(rows), all_but_last(counts)

    def arguments(self, count: int, most: int | None = None) -> Arguments:
        """Arguments for images of `count` boxes, -1 where only the run of a graph knows, that all kernels take.

        The GPU kernel raises unless keep_top_k <= nms_top_k <= boxes. Empty boxes have score 0 and are never detected.
        """
        top, keep = self.nms_top_k, self.keep_top_k
        if keep == -1 or keep > GPU_TOP_K:  # the CPU's kernel it is, which needs no more boxes
            return Arguments(1, top, keep, CONSTANT_THRESHOLD if keep == -1 else CONSTANT_THRESHOLD_ON_CPU)
        if count >= 0:
            empty_boxes = max(1, keep - count)
            most = count if most is None else min(most, count)
            # Where all that can be detected enter, a larger number changes nothing.
            top = max(most, keep) if top == -1 or top >= most else top
        else:
            empty_boxes = top if keep <= top <= GPU_TOP_K else 1
        left_to_cpu = top == -1 or top >= keep  # because of nms_top_k or not at all
        return Arguments(empty_boxes, top, keep, CONSTANT_THRESHOLD if left_to_cpu else CONSTANT_THRESHOLD_ON_CPU)

    def operator(self, boxes: Tensor, scores: Tensor, arguments: Arguments) -> tuple[Tensor, Tensor]:
        """Paddle's `multiclass_nms3`, as it is."""
        options = {
            "score_threshold": self.score_threshold,
            "nms_top_k": arguments.nms_top_k,
            "keep_top_k": arguments.keep_top_k,
            "nms_threshold": self.nms_threshold,
            "normalized": True,
            "nms_eta": arguments.nms_eta,
            "background_label": -1,
        }
        if paddle.in_dynamic_mode() or in_pir_mode():
            rows, _, rows_per_image = paddle._C_ops.multiclass_nms3(boxes, scores, None, *options.values())
            return rows, rows_per_image
        return nms_in_program(boxes, scores, options)


def with_extra_image(boxes: Tensor, scores: Tensor, empty_boxes: int, score: float) -> tuple[Tensor, Tensor]:
    """Boxes (N + 1, R', 4) and scores (N + 1, C, R') of N images and an extra one; R' = R + empty_boxes, more than R.

    Where no image has a detection, the GPU kernel ends in the launch of a kernel of 0 blocks, whose error the next call
    raises, and an XPU's invents a row. The extra image always has one detection: its first box, which is empty like all
    of its boxes, of the first class and of `score`. It is the last row, whichever way an image's rows are sorted, and
    which row to remove is known without a look at the rows.

    Products with 0 and concatenation: `zeros_like` records the device of the export in a graph, and oneDNN's kernel for
    `F.pad` of three dimensions writes beyond its memory, both in Paddle 3.3. A NaN stays one; it is above no threshold.
    """
    boxes = paddle.concat([boxes, (boxes[:, :1] * 0.0).expand([-1, empty_boxes, -1])], axis=1)
    scores = paddle.concat([scores, (scores[:, :, :1] * 0.0).expand([-1, -1, empty_boxes])], axis=2)
    extra = paddle.concat([paddle.full([1, 1, 1], score, "float32"), scores[:1, :1, 1:] * 0.0], axis=2)
    if recorded_shape(scores)[1] > 1:
        extra = paddle.concat([extra, scores[:1, 1:] * 0.0], axis=1)
    return paddle.concat([boxes, boxes[:1] * 0.0]), paddle.concat([scores, extra])


def all_but_last(rows: Tensor) -> Tensor:
    """Without the last row, which may leave none. oneDNN's kernel for slices refuses that; this has none there."""
    return paddle.strided_slice(rows, [0], [0], [-1], [1])


@paddle.jit.not_to_static
def recorded_shape(tensor: Tensor) -> list[int]:
    """Its shape in Python's numbers, -1 where only the run of a graph knows."""
    return list(tensor.shape)


def owners(rows: Tensor, rows_per_image: Tensor) -> Tensor:
    """(M,): the image of each of the M rows, at least one."""
    ends = rows_per_image.astype("int64").cumsum()
    count = rows.shape[0] if paddle.in_dynamic_mode() else paddle.shape(rows)[0].astype("int64")
    places = paddle.arange(count, dtype="int64")
    return (places.unsqueeze(1) >= ends).astype("int64").sum(axis=1)


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
