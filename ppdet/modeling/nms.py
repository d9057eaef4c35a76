"""Non-maximum suppression (NMS) by Paddle's operator `multiclass_nms3`.

The operator's kernels for CPU, GPU and XPU accept different arguments, and they fail in different ways where nothing is
detected. This file calls it with arguments that all kernels accept, and with which they compute the same. The
conditions are copied from paddle/phi/kernels/gpu/multiclass_nms3_kernel.cu, the same in Paddle 2.6 and 3.
"""

import math
from typing import Any, NamedTuple

import paddle
from paddle import Tensor

from ppdet.core.workspace import register, serializable
from ppdet.utils.ranges import require_number

# The GPU kernel takes at most this many boxes of a class. A larger `nms_top_k`, or -1, makes it call the CPU kernel.
GPU_TOP_K = 4096
# `nms_eta` below 1 lowers the IoU threshold from box to box. All values from 1 on keep it constant; but any value other
# than 1 makes the GPU kernel call the CPU kernel.
CONSTANT_THRESHOLD, CONSTANT_THRESHOLD_ON_CPU = 1.0, 1.0 + 2**-20


class Arguments(NamedTuple):
    """Arguments of the operator. `empty_boxes` is the number of empty boxes to add to the boxes of each image."""

    empty_boxes: int
    nms_top_k: int
    keep_top_k: int
    nms_eta: float


@register
@serializable
class MultiClassNMS:
    """Non-maximum suppression within each class.

    Args:
        score_threshold: a score, 0..1; scores that are not above it are dropped first. A value below 0 means 0, so that
            scores of 0, such as those in the padding, are never detected; a value above 1 means 1.
        nms_top_k: number of boxes per class that enter NMS, those with the best scores; -1 for all. Where more than
            4096 could enter, a GPU leaves NMS to the CPU, which takes longer.
        keep_top_k: number of detections per image that NMS returns, those with the best scores of all classes; -1 for
            all. For -1 and values above 4096, a GPU leaves NMS to the CPU.
        nms_threshold: an IoU, 0..1; of two boxes of a class with an IoU above it, the one with the lower score is
            suppressed.

    Raises:
        ValueError: a number is 0 or below -1, score_threshold is NaN, or nms_threshold is out of range.
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
        if math.isnan(score_threshold):
            raise ValueError(f"MultiClassNMS.score_threshold is {score_threshold}; it must be a number from 0 to 1")
        require_number("MultiClassNMS.nms_threshold", nms_threshold, minimum=0, maximum=1)
        # `with_extra_image` uses score_threshold + 1 as a score; above 1 the sum could round back in float32.
        self.score_threshold = min(max(score_threshold, 0.0), 1.0)
        self.nms_top_k = nms_top_k
        self.keep_top_k = keep_top_k
        self.nms_threshold = nms_threshold

    def __call__(
        self, boxes: Tensor, scores: Tensor, nms_offset: Tensor | None = None, max_per_class: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Apply NMS; the arguments are the fields of `Candidates`.

        Args:
            boxes: (N, R, 4) x1, y1, x2, y2.
            scores: (N, C, R) in 0..1.
            nms_offset: (N, 4), added to all boxes of an image while the IoU is computed; None adds nothing.
            max_per_class: how many scores of an image and class can be above 0; None means R.

        Returns:
            Rows (M, 6) of [class from 0, score, x1, y1, x2, y2], image by image, and the number of rows of each image
            (N,). Within an image, a CPU sorts the rows by class and then by score, a GPU by score.
        """
        boxes, scores, nms_offset, max_per_class = self.select(boxes, scores, nms_offset, max_per_class)
        arguments = self.arguments(recorded_shape(scores)[2], max_per_class)
        # It is a subtraction, since engines that compute in 16 bits are told to compute subtractions in float32.
        suppressed = boxes if nms_offset is None else boxes - -nms_offset.unsqueeze(1)
        inputs = with_extra_image(suppressed, scores, arguments.empty_boxes, self.score_threshold + 1.0)
        rows, counts = self.operator(*inputs, arguments)
        if nms_offset is not None:
            # The extra image's row is removed later: with it there is at least one row to compute with.
            offset = paddle.concat([nms_offset, nms_offset[:1] * 0.0])
            offset = paddle.concat([offset[:, :2] * 0.0, offset], axis=1)
            rows = rows - offset.gather(image_of_rows(rows, counts))
        return all_but_last(rows), all_but_last(counts)

    def select(
        self, boxes: Tensor, scores: Tensor, nms_offset: Tensor | None = None, max_per_class: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, int | None]:
        """What a kind of NMS does with the candidates before boxes are suppressed; here nothing.

        A subclass may return other boxes and scores, of the same meaning. Export records this as part of the network,
        and appends the suppression itself for other engines, with the attributes `score_threshold`, `nms_top_k`,
        `keep_top_k` and `nms_threshold`.
        """
        return boxes, scores, nms_offset, max_per_class

    def described(self) -> dict[str, str]:
        """The settings as texts, for files that say what they contain (`ppdet.score_threshold`, …)."""
        return {
            "score_threshold": f"{self.score_threshold:g}",
            "nms_threshold": f"{self.nms_threshold:g}",
            "nms_top_k": str(self.nms_top_k),
            "keep_top_k": str(self.keep_top_k),
        }

    def arguments(self, count: int, most: int | None = None) -> Arguments:
        """Arguments that all kernels accept.

        The GPU kernel raises an error unless keep_top_k <= nms_top_k <= number of boxes. Empty boxes, which have score
        0 and are never detected, make up for missing ones.

        Args:
            count: number of boxes of each image; -1 while a static graph is recorded and the number is unknown.
            most: how many scores of an image and class can be above 0; None means `count`.
        """
        top, keep = self.nms_top_k, self.keep_top_k
        if keep == -1 or keep > GPU_TOP_K:  # the CPU kernel does it, which needs no more boxes
            return Arguments(1, top, keep, CONSTANT_THRESHOLD if keep == -1 else CONSTANT_THRESHOLD_ON_CPU)
        if count >= 0:
            empty_boxes = max(1, keep - count)
            most = count if most is None else min(most, count)
            # `most` boxes are all that can be detected: a larger nms_top_k gives the same result.
            top = max(most, keep) if top == -1 or top >= most else top
        else:
            empty_boxes = top if keep <= top <= GPU_TOP_K else 1
        # Where nms_top_k < keep_top_k, the GPU kernel would raise an error: nms_eta makes it call the CPU kernel.
        accepted = top == -1 or top >= keep
        return Arguments(empty_boxes, top, keep, CONSTANT_THRESHOLD if accepted else CONSTANT_THRESHOLD_ON_CPU)

    def operator(self, boxes: Tensor, scores: Tensor, arguments: Arguments) -> tuple[Tensor, Tensor]:
        """Paddle's `multiclass_nms3`: rows (M, 6), and rows per image."""
        options: dict[str, Any] = {
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
    """Add empty boxes to each image, and an extra image with exactly one detection.

    Without any detection, the GPU kernel launches a kernel of 0 blocks, which makes the next call fail, and the XPU
    kernel invents a row. The extra image prevents both. Its one detection, an empty box of the first class with score
    `score`, is always the last row, so that the row can be removed without reading it.

    Zeros are made by products with 0 and concatenated, since in Paddle 3.3 `zeros_like` records the device of the
    export in a graph, and oneDNN's kernel for `F.pad` of three dimensions writes beyond its memory. A NaN stays NaN,
    which is above no threshold.

    Returns:
        Boxes (N + 1, R + empty_boxes, 4) and scores (N + 1, C, R + empty_boxes).
    """
    boxes = paddle.concat([boxes, (boxes[:, :1] * 0.0).expand([-1, empty_boxes, -1])], axis=1)
    scores = paddle.concat([scores, (scores[:, :, :1] * 0.0).expand([-1, -1, empty_boxes])], axis=2)
    extra = paddle.concat([paddle.full([1, 1, 1], score, "float32"), scores[:1, :1, 1:] * 0.0], axis=2)
    if recorded_shape(scores)[1] > 1:
        extra = paddle.concat([extra, scores[:1, 1:] * 0.0], axis=1)
    return paddle.concat([boxes, boxes[:1] * 0.0]), paddle.concat([scores, extra])


def all_but_last(rows: Tensor) -> Tensor:
    """All rows but the last, possibly none; then a plain slice fails in oneDNN's kernel, unlike strided_slice."""
    return paddle.strided_slice(rows, [0], [0], [-1], [1])


@paddle.jit.not_to_static
def recorded_shape(tensor: Tensor) -> list[int]:
    """The shape as Python ints; -1 for a size that is unknown while a static graph is recorded."""
    return list(tensor.shape)


def image_of_rows(rows: Tensor, rows_per_image: Tensor) -> Tensor:
    """The number of the image (M,) that each of the M rows belongs to; M is at least 1."""
    ends = rows_per_image.astype("int64").cumsum()
    count = rows.shape[0] if paddle.in_dynamic_mode() else paddle.shape(rows)[0].astype("int64")
    index = paddle.arange(count, dtype="int64")
    return (index.unsqueeze(1) >= ends).astype("int64").sum(axis=1)


def in_pir_mode() -> bool:
    """Whether Paddle 3 records a static graph now; Paddle 2.6 records a different kind of program."""
    return hasattr(paddle.base.framework, "in_pir_mode") and paddle.base.framework.in_pir_mode()


def nms_in_program(boxes: Tensor, scores: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Append the operator to the program that Paddle 2.6 records."""
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
