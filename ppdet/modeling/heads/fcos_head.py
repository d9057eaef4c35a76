"""The head of FCOS: "FCOS: A Simple and Strong Anchor-free Object Detector" (Tian et al., arXiv:2006.09214), section 2.

The same two towers and the same last convolutions run on every feature level; only a scale of the distances belongs to
one level alone.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Normal
from paddle.regularizer import L2Decay
from paddle.vision.ops import DeformConv2D

from ppdet.core.workspace import named, register
from ppdet.modeling.architectures.base import Candidates, DenseLoss, DenseMaps, ShapeSpec
from ppdet.modeling.heads.decoding import Decoder
from ppdet.modeling.layers import Conv2D, duplicate_with_summed_gradient, make_norm, normalize, sample_deformed
from ppdet.modeling.mixed import Float32
from ppdet.modeling.nms import MultiClassNMS
from ppdet.utils.locations import LEVEL_SETTINGS, Locations
from ppdet.utils.ranges import MAX_CHANNELS, MAX_CLASSES, require_choice, require_number

MAX_CONVS = 32

# A side whose ReLU is zero at all locations gets no gradient and stays zero. The bias starts at 2 strides, about the
# middle of a level's range, so that all distances of a fresh head are positive.
DISTANCE_START = 2.0


class TowerDeformConv(nn.Layer):
    """A modulated deformable 3x3 convolution of a tower. Its parameters have the names of published heads."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        undecayed = {"learning_rate": 2.0, "regularizer": L2Decay(0.0), "initializer": Constant(0.0)}
        self.conv_offset = Conv2D(
            in_channels,
            27,  # y and x of an offset, and a mask, for each of the 9 samples
            3,
            padding=1,
            weight_attr=ParamAttr(initializer=Constant(0.0)),
            bias_attr=ParamAttr(**undecayed),
        )
        self.conv_dcn = DeformConv2D(
            in_channels,
            out_channels,
            3,
            padding=1,
            weight_attr=ParamAttr(initializer=Normal(std=0.01)),
            bias_attr=ParamAttr(**undecayed) if bias else False,
        )

    def forward(self, x: Tensor) -> Tensor:
        return sample_deformed(x, self.conv_offset, self.conv_dcn, 9)


class TowerLayer(nn.Layer):
    """One layer of a tower: 3x3 convolution, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm_type: str, deformable: bool, bias: bool) -> None:
        super().__init__()
        if deformable:
            self.conv = TowerDeformConv(in_channels, out_channels, bias)
        else:
            self.conv = Conv2D(
                in_channels,
                out_channels,
                3,
                padding=1,
                weight_attr=ParamAttr(initializer=Normal(std=0.01)),
                bias_attr=ParamAttr(learning_rate=2.0, initializer=Constant(0.0)) if bias else False,
            )
        self.norm = make_norm(norm_type, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.norm, self.conv(x), relu=True)


@register
class FCOSFeat(nn.Layer):
    """The two towers of the head: one for classification, one for regression.

    Args:
        feat_in: channels of the feature levels.
        feat_out: channels of the towers.
        num_convs: number of layers in each tower.
        norm_type: norm after every convolution: batch norm, synchronized batch norm (over all ranks), or group norm.
        use_dcn: true makes every convolution deformable, `last` only the last one of each tower.
        conv_bias: whether the convolutions have a bias. The convolutions that compute offsets always have one.
    """

    def __init__(
        self,
        *,
        feat_in: int = 256,
        feat_out: int = 256,
        num_convs: int = 4,
        norm_type: Literal["bn", "sync_bn", "gn"] = "gn",
        use_dcn: bool | Literal["last"] = False,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        require_choice("FCOSFeat.use_dcn", use_dcn, (True, False, "last"))
        for name, count in (("feat_in", feat_in), ("feat_out", feat_out)):
            require_number(f"FCOSFeat.{name}", count, minimum=1, maximum=MAX_CHANNELS)
        require_number("FCOSFeat.num_convs", num_convs, minimum=1, maximum=MAX_CONVS)
        self.feat_in, self.feat_out = feat_in, feat_out

        def tower(kind: str) -> list[nn.Layer]:
            layers = []
            for i in range(num_convs):
                deformable = i == num_convs - 1 if use_dcn == "last" else use_dcn
                layer = TowerLayer(feat_in if i == 0 else feat_out, feat_out, norm_type, deformable, conv_bias)
                layers.append(self.add_sublayer(f"fcos_head_{kind}_tower_conv_{i}", layer))
            return layers

        self.cls_tower, self.reg_tower = tower("cls"), tower("reg")

    def forward(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Map a feature level (N, feat_in, H, W) to the outputs (N, feat_out, H, W) of the two towers."""
        cls_feat, reg_feat = duplicate_with_summed_gradient(feat)
        for cls_layer, reg_layer in zip(self.cls_tower, self.reg_tower):
            cls_feat, reg_feat = cls_layer(cls_feat), reg_layer(reg_feat)
        return cls_feat, reg_feat


class ScaleReg(nn.Layer):
    """A learnable factor of the distances of one level."""

    def __init__(self) -> None:
        super().__init__()
        self.scale_reg = self.create_parameter([1], attr=ParamAttr(initializer=Constant(1.0)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_reg


@register
class FCOSHead(nn.Layer):
    """Predicts dense maps; holds their loss, their decoding and the NMS. The methods are documented in `DenseHead`.

    Args:
        num_classes: number of classes C, without background.
        fcos_feat: the towers.
        fpn_stride: stride of each level in pixels, finest level first.
        prior_prob: initial sigmoid output of every class, above 0 and below 1.
        norm_reg_targets: true: distances are a ReLU's output, in strides of the level. false: they are an exponential,
            in pixels. Gt2FCOSTarget needs the same value.
        multiply_strides_reg_targets: with `norm_reg_targets`, distances are multiplied by the stride before the loss,
            which then compares pixels. Gt2FCOSTarget needs the same value.
        centerness_on_reg: the quality is predicted from the regression tower, otherwise from the classification tower.
        num_shift: position of a location within its cell, in strides: 0.5 is the cell's center, 0 its top left corner.
            Gt2FCOSTarget needs the same value.
        even_locations: false: locations are one stride apart. true: they are `size // cells` pixels apart, as in
            torchvision. Gt2FCOSTarget needs the same value.
        last_pixel: distances to the right and to the bottom end at the last pixel inside a box, as in
            maskrcnn-benchmark. Gt2FCOSTarget needs the same value.
        sqrt_score: the score is sqrt(class probability x quality), otherwise class probability x quality.
        class_threshold: a probability, 0..1; classes whose probability without the quality is not above it get score 0.
            With `nms.score_threshold: 0` it is the only threshold. null: no such threshold.
        level_top_k: keep at most this many candidates per level and image before NMS, for example 1000: the ones with
            the largest class probability x quality. null: keep all.
        level_top_k_of: what counts as one candidate. `locations`: a location with all its classes, ranked by the best
            one, even if `class_threshold` then removes it. `classes`: a pair of location and class above
            `class_threshold`.
        clip_boxes: cut boxes at the borders of the image without padding; otherwise they may extend beyond them.
        fcos_loss: the training loss; null for a head that is never trained.
        nms: the suppression of overlapping detections.
    """

    __inject__ = ["fcos_feat", "fcos_loss", "nms"]
    __unused__ = {"trt": "the same graph is exported for TensorRT and for all other engines"}
    __shared__ = ["num_classes"]

    def __init__(
        self,
        *,
        num_classes: int = 80,
        fcos_feat: FCOSFeat = named("FCOSFeat"),
        fpn_stride: Sequence[int] = (8, 16, 32, 64, 128),
        prior_prob: float = 0.01,
        norm_reg_targets: bool = True,
        multiply_strides_reg_targets: bool = False,
        centerness_on_reg: bool = True,
        num_shift: float = 0.5,
        even_locations: bool = False,
        sqrt_score: bool = False,
        class_threshold: float | None = None,
        level_top_k: int | None = None,
        level_top_k_of: Literal["locations", "classes"] = "locations",
        clip_boxes: bool = False,
        last_pixel: bool = False,
        fcos_loss: DenseLoss | None = named("FCOSLoss"),
        nms: MultiClassNMS = named("MultiClassNMS"),
    ) -> None:
        super().__init__()
        require_number("FCOSHead.num_classes", num_classes, minimum=1, maximum=MAX_CLASSES)
        require_number("FCOSHead.prior_prob", prior_prob, above=0, below=1)
        if class_threshold is not None:
            require_number("FCOSHead.class_threshold", class_threshold, above=0, below=1)
        if level_top_k is not None:
            require_number("FCOSHead.level_top_k", level_top_k, minimum=1)
        require_choice("FCOSHead.level_top_k_of", level_top_k_of, ("locations", "classes"))
        self.fcos_feat = fcos_feat
        self.fpn_stride = list(fpn_stride)
        self.norm_reg_targets = norm_reg_targets
        self.distances_in_strides = norm_reg_targets and not multiply_strides_reg_targets
        self.centerness_on_reg = centerness_on_reg
        self.locations = Locations(tuple(fpn_stride), shift=num_shift, even=even_locations, last_pixel=last_pixel)
        self.decoder = Decoder(
            self.locations,
            sqrt_score=sqrt_score,
            class_threshold=class_threshold,
            level_top_k=level_top_k,
            level_top_k_of=level_top_k_of,
            clip_boxes=clip_boxes,
        )
        self.fcos_loss = fcos_loss
        self.nms = nms

        def conv(channels: int, bias: float) -> Conv2D:
            layer = Conv2D(
                fcos_feat.feat_out,
                channels,
                3,
                padding=1,
                weight_attr=ParamAttr(initializer=Normal(std=0.01)),
                bias_attr=ParamAttr(initializer=Constant(bias)),
            )
            layer.float_result = True
            return layer

        self.fcos_head_cls = conv(num_classes, -math.log((1 - prior_prob) / prior_prob))
        self.fcos_head_reg = conv(4, DISTANCE_START if norm_reg_targets else 0.0)
        self.fcos_head_centerness = conv(1, 0.0)
        self.scales = [self.add_sublayer(f"p{round(math.log2(stride))}_feat", ScaleReg()) for stride in self.fpn_stride]

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Sequence[ShapeSpec]) -> dict[str, nn.Layer]:
        strides = [spec.stride for spec in input_shape]
        if strides != list(cfg["fpn_stride"]):
            raise ValueError(
                f"FCOSHead.fpn_stride is {list(cfg['fpn_stride'])}, but the neck gives levels of stride {strides}: "
                f"{LEVEL_SETTINGS}"
            )
        feat = cfg.create("fcos_feat")
        if feat.feat_in != input_shape[0].channels:
            raise ValueError(
                f"FCOSFeat.feat_in is {feat.feat_in}, but the neck gives {input_shape[0].channels} channels: set "
                "FCOSHead.fcos_feat.feat_in to it"
            )
        return {"fcos_feat": feat}

    def forward(self, features: Sequence[Tensor]) -> DenseMaps:
        maps = DenseMaps([], [], [])
        for feat, stride, scale in zip(features, self.fpn_stride, self.scales):
            cls_feat, reg_feat = self.fcos_feat(feat)
            if self.centerness_on_reg:
                reg_feat, quality_feat = duplicate_with_summed_gradient(reg_feat)
            else:
                cls_feat, quality_feat = duplicate_with_summed_gradient(cls_feat)
            distances = self.fcos_head_reg(reg_feat)
            with Float32():
                distances = scale(distances)
                if self.norm_reg_targets:
                    distances = F.relu(distances)
                    distances = distances if self.distances_in_strides else distances * stride
                else:
                    distances = distances.exp()
            maps.logits.append(self.fcos_head_cls(cls_feat))
            maps.distances.append(distances)
            maps.quality.append(self.fcos_head_centerness(quality_feat))
        return maps

    def in_pixels(self, maps: DenseMaps) -> DenseMaps:
        if not self.distances_in_strides:
            return maps
        distances = [level * stride for level, stride in zip(maps.distances, self.fpn_stride)]
        return DenseMaps(maps.logits, distances, maps.quality)

    def decode(
        self,
        maps: DenseMaps,
        im_shape: Tensor | None = None,
        *,
        score_threshold: float | None = None,
        every_location: bool = False,
    ) -> Candidates:
        return self.decoder.decode(
            self.in_pixels(maps), im_shape, score_threshold=score_threshold, every_location=every_location
        )
