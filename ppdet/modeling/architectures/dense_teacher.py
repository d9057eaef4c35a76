"""Dense Teacher: "Dense Pseudo-Labels for Semi-supervised Object Detection" (Zhou et al., arXiv:2207.02541)."""

import paddle
from paddle import Tensor, nn

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.mixed import Float32


class StudentAndTeacher(nn.Layer):
    """Two detectors of one architecture: the student learns from labels, and from what the teacher says of images.

    Args:
        student: the detector that is trained.
        teacher: the detector that labels; nothing here changes it, and its parameters are not this layer's.
        loss: loss(student's maps, teacher's maps), distances in pixels, such as SSODFCOSLoss.
    """

    def __init__(self, student: nn.Layer, teacher: nn.Layer, loss: nn.Layer) -> None:
        super().__init__()
        self.student = student
        self.loss = loss
        # In a tuple it is no sublayer: data parallel training must not look for its gradients.
        self._hidden = (teacher,)
        teacher.eval()
        for parameter in teacher.parameters():
            parameter.stop_gradient = True

    @property
    def teacher(self) -> nn.Layer:
        return self._hidden[0]

    def forward(
        self,
        labeled: dict | None = None,
        normalizers: tuple[Tensor, ...] | None = None,
        unlabeled: Tensor | None = None,
    ) -> dict:
        """Losses of one of the two: a labelled batch, or unlabelled images.

        Args:
            labeled, normalizers: see the student's forward.
            unlabeled: (2 N, 3, H, W) normalised images, N strong views for the student, then the weak views of the
                same images for the teacher.
        """
        if unlabeled is None:
            return self.student(labeled, normalizers)
        strong, weak = unlabeled.chunk(2)
        return self.loss(self.maps(self.student, strong), self.pseudo_labels(weak))

    @paddle.no_grad()
    def pseudo_labels(self, images: Tensor) -> DenseMaps:
        """The teacher's maps of images (N, 3, H, W), distances in pixels."""
        return self.maps(self.teacher, images)

    @staticmethod
    def maps(detector: nn.Layer, images: Tensor) -> DenseMaps:
        maps = detector.predict_maps(images)
        with Float32():
            return detector.in_pixels(maps)
