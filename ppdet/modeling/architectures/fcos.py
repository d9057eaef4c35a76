"""FCOS: "FCOS: Fully Convolutional One-Stage Object Detection" (Tian et al., arXiv:1904.01355)."""

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn

from ppdet.core.workspace import named, register
from ppdet.modeling import cpu
from ppdet.modeling.folding import UnchangedNorms
from ppdet.modeling.heads.candidates import most_of_a_class
from ppdet.modeling.heads.fcos_head import DenseMaps, FCOSHead
from ppdet.modeling.mixed import Float32
from ppdet.utils.errors import UserError


class ImageSizeError(UserError, ValueError):
    """Images of a size that the network does not take; the message says what to change."""


@register
class FCOS(nn.Layer):
    """Backbone, neck and head, with the three things one does with them: predict maps, take a loss, detect."""

    __inject__ = ["backbone", "neck", "fcos_head"]

    def __init__(
        self,
        *,
        backbone: nn.Layer = named("ResNet"),
        neck: nn.Layer = named("FPN"),
        fcos_head: FCOSHead = named("FCOSHead"),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.fcos_head = fcos_head

    @classmethod
    def from_config(cls, cfg) -> dict:
        backbone = cfg.create("backbone")
        neck = cfg.create("neck", input_shape=backbone.out_shape)
        return {
            "backbone": backbone,
            "neck": neck,
            "fcos_head": cfg.create("fcos_head", input_shape=neck.out_shape),
        }

    @property
    def strides(self) -> list[int]:
        """Stride of each level in pixels, finest first."""
        return self.fcos_head.fpn_stride

    @property
    def num_shift(self) -> float:
        """Where in a cell its location lies, in strides."""
        return self.fcos_head.num_shift

    @property
    def even_locations(self) -> bool:
        """Whether the input's size decides how far apart locations are, see `FCOSHead`."""
        return self.fcos_head.even_locations

    @property
    def last_pixel(self) -> bool:
        """Whether distances end at a box's last pixel, see `FCOSHead`."""
        return self.fcos_head.last_pixel

    @property
    def distances_in_strides(self) -> bool:
        """Whether the loss takes distances in strides of their level, otherwise in pixels."""
        return self.fcos_head.distances_in_strides

    def forward(self, batch: dict, normalizers: tuple[Tensor, ...] | None = None) -> dict | tuple[Tensor, Tensor]:
        """Losses of a training batch in training mode, detections of an evaluation batch otherwise.

        Training wrappers such as DataParallel act on this method only; all else calls the methods below.
        """
        maps = self.predict_maps(batch["image"])
        if self.training:
            return self.loss(maps, batch, normalizers)
        return self.detect(maps, batch["scale_factor"], batch.get("im_shape"))

    def normalizers(self, batches: Sequence[dict]) -> tuple[Tensor, ...]:
        """What the losses of several training batches are divided by when their gradients are added up."""
        return self.fcos_head.fcos_loss.normalizers(batches)

    def predict_maps(self, images: Tensor) -> DenseMaps:
        """Dense maps of normalised images (N, 3, H, W), sides multiples of the backbone's largest stride.

        Raises:
            ImageSizeError: a side is no such multiple.
        """
        stride = self.backbone.out_shape[-1].stride
        if paddle.in_dynamic_mode() and (images.shape[2] % stride or images.shape[3] % stride):
            raise ImageSizeError(
                f"the network takes image sides that are multiples of {stride}, not {images.shape[2]}x"
                f"{images.shape[3]}: add `- PadBatch: {{pad_to_stride: {stride}}}` to the reader's batch_transforms"
            )
        with cpu.UnchangedWeights(), UnchangedNorms(self):
            return self.fcos_head(self.neck(self.backbone(images)))

    def in_pixels(self, maps: DenseMaps) -> DenseMaps:
        """The same maps with distances in pixels of the network's input."""
        return maps._replace(distances=self.fcos_head.pixel_distances(maps))

    def loss(self, maps: DenseMaps, targets: dict, normalizers: tuple[Tensor, ...] | None = None) -> dict:
        """Losses as `FCOSLoss` gives them; `targets` as `Gt2FCOSTarget` makes them."""
        with Float32():
            return self.fcos_head.fcos_loss(maps, targets, normalizers)

    def detect(self, maps: DenseMaps, scale_factor: Tensor, im_shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the original images, and rows per image (N,).

        Args:
            scale_factor: (N, 2), y then x: size of the network's input over size of the original image.
            im_shape: (N, 2), heights and widths in the network's input without padding, in which nothing is detected.
                None: there is no padding.
        """
        nms = self.fcos_head.nms
        # A static graph keeps all locations: other formats and devices want shapes that follow from the image's.
        threshold = nms.score_threshold if paddle.in_dynamic_mode() else None
        with Float32():
            boxes, scores = self.decode(maps, scale_factor, threshold, im_shape)
            shift = self.suppression_shift(scale_factor) if self.last_pixel else None
            return nms(boxes, scores, shift, most_of_a_class(maps.logits, self.fcos_head.level_top_k))

    def suppression_shift(self, scale_factor: Tensor) -> Tensor:
        """(N, 4), what is added to decoded boxes for their suppression, where `last_pixel`.

        It counts the last pixel in the network's input (IoU is the same in any scale), `decode` in the original image.
        """
        scale = scale_factor.flip(1)
        size = (scale * 0.0 + 1.0) / scale  # a number over a tensor is an operator that paddle2onnx does not know
        return paddle.concat([size * 0.0, size - 1.0], axis=1)

    def decode(
        self,
        maps: DenseMaps,
        scale_factor: Tensor,
        score_threshold: float | None = None,
        im_shape: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Boxes (N, R, 4) in pixels of the original images and scores (N, C, R), before suppression.

        With a threshold, of those locations only that `FCOSHead.decode` then chooses.
        """
        boxes, scores = self.fcos_head.decode(maps, score_threshold, im_shape)
        boxes = self.fcos_head.clip(boxes, im_shape)
        scale = paddle.concat([scale_factor.flip(1), scale_factor.flip(1)], axis=1).unsqueeze(1)
        boxes = boxes / scale
        if self.last_pixel:
            boxes = paddle.concat([boxes[:, :, :2], boxes[:, :, 2:] + 1.0], axis=2)
        return boxes, scores
