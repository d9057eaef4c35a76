"""Dense Teacher: "Dense Pseudo-Labels for Semi-supervised Object Detection" (Zhou et al., arXiv:2207.02541)."""

import paddle
from paddle import Tensor, nn

from ppdet.modeling.architectures.base import DenseDetector, DenseMaps
from ppdet.modeling.mixed import Float32


class StudentAndTeacher(nn.Layer):
    """Two detectors of the same architecture: the student learns from labels and from the teacher's maps.

    Args:
        student: the detector to train.
        teacher: the detector that gives pseudo-labels. This layer never changes it, and does not list its parameters.
        loss: loss(student's maps, teacher's maps) with distances in pixels, such as `SSODFCOSLoss`.
    """

    def __init__(self, student: DenseDetector, teacher: DenseDetector, loss: nn.Layer) -> None:
        super().__init__()
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
    ) -> dict[str, Tensor]:
        """Losses of either a labeled batch or of unlabeled images.

        Args:
            labeled, normalizers: arguments of the student's forward.
            unlabeled: (2 N, 3, H, W) normalized images: N strong views for the student, then the weak views of the
                same images for the teacher.
        """
        if unlabeled is None:
            return self.student(labeled, normalizers)
        strong, weak = unlabeled.chunk(2)
        return self.loss(pixel_maps(self.student, strong), self.pseudo_labels(weak))

    @paddle.no_grad()
    def pseudo_labels(self, images: Tensor) -> DenseMaps:
        """The teacher's maps for images (N, 3, H, W), with distances in pixels."""
        return pixel_maps(self.teacher, images)


def pixel_maps(detector: DenseDetector, images: Tensor) -> DenseMaps:
    """A detector's maps for images (N, 3, H, W), with distances in pixels."""
    maps = detector.predict_maps(images)
    with Float32():
        return detector.in_pixels(maps)
