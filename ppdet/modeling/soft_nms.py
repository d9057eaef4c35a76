"""Soft-NMS: "Soft-NMS -- Improving Object Detection With One Line of Code" (Bodla et al., arXiv:1704.04503).

Where NMS drops a box that overlaps a better one, Soft-NMS lowers its score. Two objects that stand close together are
then both detected, the second one with less confidence.

The algorithm takes one box after the other. Evaluation and inference run it in NumPy, on whatever device the network
is. A graph has it with a fixed number of steps and no branch, so that Paddle's static graph and every format that
graphs are converted to contain it: `keep_top_k` steps are recorded, four operators each. A loop would be shorter, but
in Paddle 3.3 oneDNN's bfloat16 pass ends with a segmentation fault on one.
"""

from typing import Literal

import numpy as np
import paddle
from paddle import Tensor

from ppdet.core.workspace import register, serializable
from ppdet.modeling.heads.decoding import gather_rows
from ppdet.modeling.nms import MultiClassNMS, recorded_shape
from ppdet.utils.ranges import require_choice, require_number
from ppdet.utils.soft_suppression import SIGMAS, Decay, suppress_softly

MOST_PAIRS = 4000  # that enter: their overlaps take 64 MB for each image
MOST_STEPS = 1000  # of a graph
# Areas are in units of 128 x 128 pixels, as those of pixels overflow float16. A power of two changes no digit.
UNIT = 1 / 128


@register
@serializable
class SoftNMS(MultiClassNMS):
    """Soft-NMS within each class: boxes that overlap a better one lose score (arXiv:1704.04503, section 3).

    Args:
        method: how the score s of a box changes whose IoU with a better box of its class is o. `gaussian`:
            s x exp(-o² / sigma). `linear`: s x (1 - o) if o is at least nms_threshold, otherwise s.
        sigma: width of `gaussian`, from 0.000001 to a million. A large one changes little, a small one approaches NMS.
        nms_threshold: an IoU, 0..1; `linear` only changes scores of boxes that overlap by this.
        score_threshold: a score, 0..1; scores that are not above it are dropped, before and after the change. With
            that of ordinary NMS, such as 0.025, many of the boxes that Soft-NMS would keep are dropped after all.
        nms_top_k: number of candidates of an image that enter, of all classes together, those with the best scores.
            A candidate is a box with one of its classes. At most 4000.
        keep_top_k: number of detections per image, those with the best scores after the change, at most 1000. A graph
            grows by four operators for each.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        *,
        method: Literal["gaussian", "linear"] = "gaussian",
        sigma: float = 0.5,
        nms_threshold: float = 0.3,
        score_threshold: float = 0.001,
        nms_top_k: int = 1000,
        keep_top_k: int = 100,
    ) -> None:
        require_choice("SoftNMS.method", method, ("gaussian", "linear"))
        require_number("SoftNMS.sigma", sigma, minimum=SIGMAS[0], maximum=SIGMAS[1])
        require_number("SoftNMS.nms_threshold", nms_threshold, minimum=0, maximum=1)
        require_number("SoftNMS.score_threshold", score_threshold, minimum=0, maximum=1)
        require_number("SoftNMS.nms_top_k", nms_top_k, minimum=1, maximum=MOST_PAIRS)
        require_number("SoftNMS.keep_top_k", keep_top_k, minimum=1, maximum=MOST_STEPS)
        # What follows `select` is NMS that suppresses nothing, since no IoU is above 1.
        super().__init__(score_threshold=score_threshold, nms_top_k=-1, keep_top_k=keep_top_k, nms_threshold=1.0)
        self.method = method
        self.sigma = sigma
        self.soft_threshold = nms_threshold
        self.pairs = nms_top_k

    def described(self) -> dict[str, str]:
        own = ("sigma", self.sigma) if self.method == "gaussian" else ("threshold", self.soft_threshold)
        return {
            "score_threshold": f"{self.score_threshold:g}",
            "nms_top_k": str(self.pairs),
            "keep_top_k": str(self.keep_top_k),
            "soft_nms_method": self.method,
            f"soft_nms_{own[0]}": f"{own[1]:g}",
        }

    def select(
        self, boxes: Tensor, scores: Tensor, nms_offset: Tensor | None = None, max_per_class: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None, int | None]:
        """The boxes that Soft-NMS takes, at most keep_top_k of an image, each with its new score in one class.

        Args: see `MultiClassNMS.__call__`.

        Returns:
            Boxes (N, T, 4), best first; scores (N, C, T), which are 0 except for the one class of each box; None; and
            T. Boxes beyond the last detection have scores that are not above score_threshold.
        """
        classes = recorded_shape(scores)[1]
        waiting, pair = self.candidates(scores.transpose([0, 2, 1]).flatten(1))
        location, label = pair // classes, pair % classes
        compared = boxes if nms_offset is None else boxes - -nms_offset.unsqueeze(1)
        take = self.take_on_host if paddle.in_dynamic_mode() else self.take_in_graph
        best, at = take(gather_rows(compared, location), label, pair, waiting)
        label = paddle.take_along_axis(label, at, 1, broadcast=False).unsqueeze(1)
        own = (label == paddle.arange(classes, dtype="int64").reshape([1, -1, 1])).astype("float32")
        chosen = gather_rows(boxes, paddle.take_along_axis(location, at, 1, broadcast=False))
        return chosen, best.unsqueeze(1) * own, None, recorded_shape(best)[1]

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The P best of the scores (N, R C) that are above the threshold, and their indices (N, P).

        P is nms_top_k in a graph; otherwise at most the number of scores that are not below the threshold, which NaN is
        not either. Where an image has fewer, the rest have scores of 0 and any index.
        """
        count, length = self.pairs, paddle.shape(scores)[1].astype("int64")
        if paddle.in_dynamic_mode():
            below = int((scores <= self.score_threshold).astype("int32").sum(axis=1).min())
            length = scores.shape[1]
            count = max(1, min(count, length - below))
        zeros = (scores[:, :1] * 0.0).expand([-1, count])
        best, index = paddle.concat([scores, zeros], axis=1).topk(count, axis=1)
        index = index % length
        nothing = (index * 0).astype("float32")  # also for scores that are NaN
        return paddle.where(best > self.score_threshold, best, nothing), index

    def take_on_host(self, boxes: Tensor, labels: Tensor, pairs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Take the boxes of each image one after the other.

        Args:
            boxes: (N, P, 4).
            labels, pairs, scores: (N, P): the candidates' classes, indices and scores.

        Returns:
            The scores with which boxes are taken, and their places among the P, both (N, T), best first. Where less
            than T boxes of an image are taken, the rest have scores of 0.
        """
        decay, limits = Decay(self.method, self.sigma, self.soft_threshold), (self.score_threshold, self.keep_top_k)
        images = zip(boxes.numpy(), labels.numpy(), scores.numpy())
        taken = [suppress_softly(box, label, score, decay, *limits) for box, label, score in images]
        count = max(1, *(len(places) for _, places in taken))
        best, at = np.zeros((len(taken), count), np.float32), np.zeros((len(taken), count), np.int64)
        for row_of_best, row_of_places, (values, places) in zip(best, at, taken):
            row_of_best[: len(values)], row_of_places[: len(places)] = values, places
        return paddle.to_tensor(best), paddle.to_tensor(at)

    def take_in_graph(self, boxes: Tensor, labels: Tensor, pairs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """`take_on_host` as keep_top_k steps of a static graph; T is keep_top_k, or P if that is less."""
        decay = self.decay(boxes, labels, pairs)
        # The rows of all images are in one list, so that a step is few operators. An index is a subtraction since
        # TensorRT, which leaves that to Paddle (operator_names.py), would compile an engine for the additions.
        count = recorded_shape(decay)[2]
        rows, before = decay.flatten(0, 1), paddle.arange(paddle.shape(pairs)[0].astype("int64"), dtype="int64")
        before = before.unsqueeze(1) * -count
        waiting, best, places = scores, [], []
        for _ in range(min(self.keep_top_k, count)):
            top, place = waiting.topk(1, axis=1)
            waiting = waiting * rows.gather((place - before).squeeze(1))
            best.append(top)
            places.append(place)
        return paddle.concat(best, axis=1), paddle.concat(places, axis=1)

    def decay(self, boxes: Tensor, labels: Tensor, pairs: Tensor) -> Tensor:
        """What a box, once taken, multiplies the scores of the others with: (N, P, P), [n, taken, other].

        It is 1 for a box of another class, and 0 for the taken box itself, so that it is not taken again.

        Args:
            boxes: (N, P, 4).
            labels: (N, P), their classes.
            pairs: (N, P), their indices, which differ between those with scores above 0.
        """
        x1, y1, x2, y2 = (boxes * UNIT).unbind(axis=2)
        area = (x2 - x1).clip(min=0.0) * (y2 - y1).clip(min=0.0)
        # An empty box gets another area, which only prevents a division of 0 by 0.
        area = paddle.where(area > 0.0, area, (labels * 0 + 1).astype("float32"))
        width, height = (
            paddle.minimum(column(last), row(last)) - paddle.maximum(column(first), row(first))
            for first, last in ((x1, x2), (y1, y2))
        )
        common = width.clip(min=0.0) * height.clip(min=0.0)
        # Subtraction, since engines that compute in 16 bits are told to compute subtractions in float32.
        iou = common / (column(area) - (common - row(area)))
        iou = iou * (column(labels) == row(labels)).astype("float32")
        if self.method == "gaussian":
            kept = (iou * iou * (-1.0 / self.sigma)).exp()
        else:
            kept = 1.0 - iou * (iou >= self.soft_threshold).astype("float32")
        return kept * (column(pairs) != row(pairs)).astype("float32")


def column(values: Tensor) -> Tensor:
    """(N, P) as (N, P, 1). It is a reshape as TensorRT leaves that to Paddle, like all of decoding."""
    return values.reshape([-1, recorded_shape(values)[1], 1])


def row(values: Tensor) -> Tensor:
    """(N, P) as (N, 1, P)."""
    return values.reshape([-1, 1, recorded_shape(values)[1]])
