"""Dense Teacher: "Dense Pseudo-Labels for Semi-supervised Object Detection" (Zhou et al., arXiv:2207.02541)."""

import numpy as np
import paddle
from paddle import Tensor, nn

from ppdet.modeling.architectures.base import DenseDetector, DenseMaps
from ppdet.modeling.architectures.pasted_views import draw_rectangles, paste_images, paste_maps
from ppdet.modeling.mixed import Float32
from ppdet.modeling.norm_statistics import Statistics, statistics_of


class StudentAndTeacher(nn.Layer):
    """Two detectors of the same architecture: the student learns from labels and from the teacher's maps.

    Args:
        student: the detector to train.
        teacher: the detector that gives pseudo-labels. This layer never changes it, and does not list its parameters.
        loss: loss(student's maps, teacher's maps) with distances in pixels, such as `SSODFCOSLoss`.
        norm_statistics: the statistics of the student's batch norms for strong views, see `statistics_of`. The teacher
            only sees weak views, with the running statistics.
        cutmix_prob: probability, 0 to 1, of pasting a rectangle of another image of the batch into a strong unlabeled
            view, and the teacher's maps likewise, see `ppdet.modeling.architectures.pasted_views`. Rectangles are drawn
            with NumPy's global generator, which the trainer seeds in every step.
    """

    def __init__(
        self,
        student: DenseDetector,
        teacher: DenseDetector,
        loss: nn.Layer,
        *,
        norm_statistics: Statistics = "shared",
        cutmix_prob: float = 0.0,
    ) -> None:
        super().__init__()
        self.cutmix_prob = cutmix_prob
        self.norm_statistics = norm_statistics
        self.student = student
        self.loss = loss
        # In a tuple it is no sublayer: data parallel training must not wait for its gradients.
        self._teacher = (teacher,)
        teacher.eval()
        for parameter in teacher.parameters():
            parameter.stop_gradient = True

    @property
    def teacher(self) -> DenseDetector:
        return self._teacher[0]

    def forward(
        self,
        labeled: dict[str, Tensor] | None = None,
        normalizers: tuple[Tensor, ...] | None = None,
        unlabeled: Tensor | None = None,
        is_strong: bool = False,
    ) -> dict[str, Tensor]:
        """Losses of either a labeled batch or of unlabeled images.

        Args:
            labeled, normalizers: arguments of the student's forward.
            unlabeled: (2 N, 3, H, W) normalized images: N strong views for the student, then the weak views of the
                same images for the teacher.
            is_strong: whether `labeled` has strong views alone.
        """
        if unlabeled is None:
            with statistics_of(self.student, self.norm_statistics if is_strong else "shared"):
                return self.student(labeled, normalizers)
        strong, weak = unlabeled.chunk(2)
        rectangles = None
        if self.cutmix_prob:
            rng = np.random.default_rng(np.random.randint(2**31))
            images, _, height, width = strong.shape
            rectangles = draw_rectangles(rng, images, height, width, self.cutmix_prob)
            strong = paste_images(strong, rectangles)
        with statistics_of(self.student, self.norm_statistics):
            maps = pixel_maps(self.student, strong)
        targets = self.pseudo_labels(weak)
        if rectangles is not None:
            targets = paste_maps(targets, rectangles, self.student.locations)
        return self.loss(maps, targets)

    @paddle.no_grad()
    def pseudo_labels(self, images: Tensor) -> DenseMaps:
        """The teacher's maps for images (N, 3, H, W), with distances in pixels."""
        return pixel_maps(self.teacher, images)


def pixel_maps(detector: DenseDetector, images: Tensor) -> DenseMaps:
    """A detector's maps for images (N, 3, H, W), with distances in pixels."""
    maps = detector.predict_maps(images)
    with Float32():
        return detector.in_pixels(maps)
