"""Building blocks: convolution with norm, deformable convolution, multi-class NMS.

Letters used in this package: N images, R locations (all levels together), M boxes, C classes, L levels.
"""

from typing import NamedTuple, Optional

import paddle
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Initializer
from paddle.regularizer import L2Decay
from paddle.vision.ops import DeformConv2D

from ppdet.core.workspace import register, serializable


class ShapeSpec(NamedTuple):
    """What a component tells the next one about a feature map it gives: channels and stride in pixels."""

    channels: int
    stride: int


def make_norm(
    norm_type: str,
    channels: int,
    *,
    frozen: bool = False,
    lr_mult: float = 1.0,
    decay: Optional[float] = 0.0,
    groups: int = 32,
) -> nn.Layer:
    """Return the normalisation layer `norm_type` names: bn, sync_bn or gn.

    `frozen` uses the stored statistics and trains neither scale nor bias. `decay` is the L2 factor of scale and
    bias, None the optimizer's own. sync_bn gives a batch norm here; the trainer converts it when several GPUs train.
    """
    regularizer = None if decay is None else L2Decay(decay)
    attr = {
        "learning_rate": 0.0 if frozen else lr_mult,
        "regularizer": regularizer,
        "trainable": not frozen,
    }
    if norm_type in ("bn", "sync_bn"):
        norm = nn.BatchNorm2D(
            channels,
            weight_attr=ParamAttr(**attr),
            bias_attr=ParamAttr(**attr),
            use_global_stats=True if frozen else None,
        )
        norm.synchronize = norm_type == "sync_bn" and not frozen
        return norm
    if norm_type == "gn":
        return nn.GroupNorm(groups, channels, weight_attr=ParamAttr(**attr), bias_attr=ParamAttr(**attr))
    raise ValueError(f"norm_type is {norm_type!r}; it must be bn, sync_bn or gn")


def sample_deformed(x: Tensor, conv_offset: nn.Layer, conv: nn.Layer, samples: int) -> Tensor:
    """Apply the deformable `conv` to x (N, C, H, W), with offsets and masks that `conv_offset` reads from x."""
    offset, mask = conv_offset(x).split([2 * samples, samples], axis=1)
    return conv(x, offset, mask=nn.functional.sigmoid(mask))


class ConvNorm(nn.Layer):
    """Convolution, then norm: the layer that backbone and neck are made of.

    With `deformable`, a modulated deformable convolution takes the place of the plain one, under the names that
    published backbones use (`conv_offset` beside `conv`).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm_type: str = "bn",
        norm_decay: Optional[float] = 0.0,
        freeze_norm: bool = False,
        lr_mult: float = 1.0,
        deformable: bool = False,
        initializer: Optional[Initializer] = None,
    ) -> None:
        super().__init__()
        self.samples = kernel_size * kernel_size if deformable else 0
        options = {
            "stride": stride,
            "padding": (kernel_size - 1) // 2,
            "weight_attr": ParamAttr(learning_rate=lr_mult, initializer=initializer),
            "bias_attr": False,
        }
        if deformable:
            zero = ParamAttr(initializer=Constant(0.0))
            self.conv_offset = nn.Conv2D(
                in_channels,
                3 * self.samples,
                kernel_size,
                stride=stride,
                padding=(kernel_size - 1) // 2,
                weight_attr=zero,
                bias_attr=ParamAttr(initializer=Constant(0.0)),
            )
            self.conv = DeformConv2D(in_channels, out_channels, kernel_size, groups=groups, **options)
        else:
            self.conv = nn.Conv2D(in_channels, out_channels, kernel_size, groups=groups, **options)
        self.norm = make_norm(norm_type, out_channels, frozen=freeze_norm, lr_mult=lr_mult, decay=norm_decay)

    def forward(self, x: Tensor) -> Tensor:
        x = sample_deformed(x, self.conv_offset, self.conv, self.samples) if self.samples else self.conv(x)
        return self.norm(x)

    @paddle.no_grad()
    def fuse(self) -> bool:
        """Fold the batch norm's stored statistics, scale and bias into the convolution, for inference only.

        Returns False, and changes nothing, when the norm is not a batch norm.
        """
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2D):
            return False
        factor = norm.weight / (norm._variance + norm._epsilon).sqrt()
        self.conv.weight.set_value(self.conv.weight * factor.reshape([-1, 1, 1, 1]))
        self.conv.bias = self.conv.create_parameter([factor.shape[0]], is_bias=True)
        self.conv.bias.set_value(norm.bias - norm._mean * factor)
        self.norm = nn.Identity()
        return True


@register
@serializable
class MultiClassNMS:
    """Non-maximum suppression class by class.

    Args:
        score_threshold: detections below it are dropped before anything else.
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
        self.score_threshold = score_threshold
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
