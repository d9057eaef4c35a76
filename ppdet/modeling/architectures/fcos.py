"""FCOS: "FCOS: Fully Convolutional One-Stage Object Detection" (Tian et al., arXiv:1904.01355).

The whole detector can be read in eight files, in the order in which data flows:

1. ppdet/modeling/architectures/base.py: the data that the parts exchange, `DenseMaps` and `Candidates`.
2. ppdet/modeling/architectures/fcos.py: this file, which connects backbone, neck and head.
3. ppdet/modeling/heads/fcos_head.py: towers and head, from feature levels to maps.
4. ppdet/utils/locations.py: where the location of each cell of a map lies.
5. ppdet/data/transforms/batches/targets.py: which locations learn which box (training).
6. ppdet/modeling/losses/fcos_loss.py: focal loss, IoU loss, quality loss (training).
7. ppdet/modeling/heads/decoding.py: from maps to boxes and scores (inference).
8. ppdet/modeling/nms.py: non-maximum suppression (inference).
"""

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import Tensor, nn

from ppdet.core.contracts import require
from ppdet.core.workspace import named, register
from ppdet.modeling import cpu
from ppdet.modeling.architectures.base import Backbone, Candidates, DenseHead, DenseLoss, DenseMaps, Neck
from ppdet.modeling.architectures.checks import check_levels, check_maps, require_levels
from ppdet.modeling.folding import CachedFolds
from ppdet.modeling.mixed import Float32
from ppdet.utils.errors import ConfigError, UserError


class ImageSizeError(UserError, ValueError):
    """The network cannot process images of this size; the message says what to change."""


@register
class FCOS(nn.Layer):
    """The FCOS detector; its methods are documented in `DenseDetector`.

    Args:
        backbone: turns images into feature maps, for example `ResNet`.
        neck: turns the backbone's maps into feature levels, for example `FPN`.
        fcos_head: turns feature levels into maps; it also has the loss and the NMS.
    """

    __inject__ = ["backbone", "neck", "fcos_head"]

    def __init__(
        self,
        *,
        backbone: Backbone = named("ResNet"),
        neck: Neck = named("FPN"),
        fcos_head: DenseHead = named("FCOSHead"),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.fcos_head = fcos_head
        self.locations = fcos_head.locations
        self.distances_in_strides = fcos_head.distances_in_strides
        self.nms = fcos_head.nms

    @classmethod
    def from_config(cls, cfg: Any) -> dict[str, nn.Layer]:
        backbone = cfg.create("backbone")
        neck = cfg.create("neck", input_shape=require_levels(backbone, Backbone, f"{cfg.key}.backbone"))
        head = cfg.create("fcos_head", input_shape=require_levels(neck, Neck, f"{cfg.key}.neck"))
        require(head, DenseHead, f"{cfg.key}.fcos_head")
        if head.fcos_loss is not None:
            require(head.fcos_loss, DenseLoss, f"{type(head).__name__}.fcos_loss")
        return {"backbone": backbone, "neck": neck, "fcos_head": head}

    def forward(
        self, batch: dict[str, Tensor], normalizers: tuple[Tensor, ...] | None = None
    ) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        maps = self.predict_maps(batch["image"])
        if self.training:
            return self.loss(maps, batch, normalizers)
        return self.detect(maps, batch["scale_factor"], batch.get("im_shape"))

    def predict_maps(self, images: Tensor) -> DenseMaps:
        """See `DenseDetector`.

        Raises:
            ImageSizeError: height or width is not a multiple of the backbone's largest stride.
        """
        stride = self.backbone.out_shape[-1].stride
        if paddle.in_dynamic_mode() and (images.shape[2] % stride or images.shape[3] % stride):
            raise ImageSizeError(
                f"heights and widths of images must be multiples of {stride}, but these are {images.shape[2]}x"
                f"{images.shape[3]}: add `- PadBatch: {{pad_to_stride: {stride}}}` to the reader's batch_transforms"
            )
        with cpu.CachedPackedWeights(), CachedFolds(self):
            features = self.backbone(images)
            check_levels(features, self.backbone, images)
            levels = self.neck(features)
            check_levels(levels, self.neck, images)
            maps = self.fcos_head(levels)
            check_maps(maps, self.fcos_head, levels)
            return maps

    @property
    def _loss(self) -> DenseLoss:
        if self.fcos_head.fcos_loss is None:
            head = type(self.fcos_head).__name__
            raise ConfigError(f"{head}.fcos_loss is null: training needs a loss, for example fcos_loss: FCOSLoss")
        return self.fcos_head.fcos_loss

    def normalizers(self, batches: Sequence[dict[str, Tensor]]) -> tuple[Tensor, ...]:
        return self._loss.normalizers(batches)

    def loss(
        self, maps: DenseMaps, targets: dict[str, Tensor], normalizers: tuple[Tensor, ...] | None = None
    ) -> dict[str, Tensor]:
        with Float32():
            return self._loss(maps, targets, normalizers)

    def in_pixels(self, maps: DenseMaps) -> DenseMaps:
        return self.fcos_head.in_pixels(maps)

    def detect(self, maps: DenseMaps, scale_factor: Tensor, im_shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # A static graph keeps all locations, since other formats and devices need shapes that follow from the input's.
        threshold = self.nms.score_threshold if paddle.in_dynamic_mode() else None
        with Float32():
            return self.nms(*self.decode(maps, scale_factor, im_shape, score_threshold=threshold))

    def decode(
        self,
        maps: DenseMaps,
        scale_factor: Tensor,
        im_shape: Tensor | None = None,
        *,
        score_threshold: float | None = None,
        every_location: bool = False,
    ) -> Candidates:
        """See `DenseDetector`; `score_threshold` as in `DenseHead.decode`."""
        candidates = self.fcos_head.decode(
            maps, im_shape, score_threshold=score_threshold, every_location=every_location
        )
        scale = scale_factor.flip(1)  # x, y
        boxes = candidates.boxes / paddle.concat([scale, scale], axis=1).unsqueeze(1)
        if not self.locations.last_pixel:
            return Candidates(boxes, candidates.scores, None, candidates.max_per_class)
        # The decoded sides are the box's last pixels. Detections end one pixel of the original image later, but NMS
        # shall see boxes that end one pixel of the network's input later: 1 / scale in the original image.
        boxes = paddle.concat([boxes[:, :, :2], boxes[:, :, 2:] + 1.0], axis=2)
        pixel = (scale * 0.0 + 1.0) / scale  # paddle2onnx does not know the operator of a number / a tensor
        nms_offset = paddle.concat([pixel * 0.0, pixel - 1.0], axis=1)
        return Candidates(boxes, candidates.scores, nms_offset, candidates.max_per_class)
