"""FPN: "Feature Pyramid Networks for Object Detection" (Lin et al., arXiv:1612.03144), section 3."""

from collections.abc import Sequence
from typing import Any, Literal

from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import XavierUniform

from ppdet.core.workspace import register, serializable
from ppdet.modeling.architectures.base import ShapeSpec
from ppdet.modeling.layers import (
    Conv2D,
    ConvNorm,
    Freeze,
    apply_relu,
    duplicate_with_summed_gradient,
    max_pool,
    upsample_twice,
)
from ppdet.utils.ranges import MAX_CHANNELS, require_number

MAX_EXTRA = 8  # the stride of the level above them is 2**8 times that of the last backbone map


@register
@serializable
class FPN(nn.Layer):
    """The feature pyramid: a top-down path over the backbone's maps, and extra levels above the last one.

    Args:
        in_channels: channels of the backbone's maps, finest first.
        spatial_scales: 1 / stride of the backbone's maps.
        out_channel: channels of every level.
        extra_stage: number of levels above the last backbone map; 2 gives P6 and P7 above C5.
        has_extra_convs: extra levels are 3x3 convolutions with stride 2. Otherwise each takes every second pixel of the
            level below it.
        use_c5: the first extra convolution reads the last backbone map, otherwise the level made from that map.
        relu_before_extra_convs: whether a ReLU precedes every extra convolution except the first.
        norm_type: norm after every convolution: batch norm, synchronized batch norm (over all ranks), or group norm;
            null for convolutions with a bias and no norm.
        freeze_norm: see `ResNet`.
    """

    __given__ = dict.fromkeys(("in_channels", "spatial_scales"), "it follows from the backbone's maps")

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        spatial_scales: Sequence[float] = (0.125, 0.0625, 0.03125),
        out_channel: int = 256,
        extra_stage: int = 2,
        has_extra_convs: bool = True,
        use_c5: bool = False,
        relu_before_extra_convs: bool = True,
        norm_type: Literal["bn", "sync_bn", "gn"] | None = None,
        freeze_norm: Freeze = False,
    ) -> None:
        super().__init__()
        if len(in_channels) != len(spatial_scales):
            raise ValueError(
                f"FPN.spatial_scales has {len(spatial_scales)} values and in_channels {len(in_channels)}: both need "
                "one for each backbone map"
            )
        require_number("FPN.out_channel", out_channel, minimum=1, maximum=MAX_CHANNELS)
        require_number("FPN.extra_stage", extra_stage, minimum=0, maximum=MAX_EXTRA)
        self.extra_stage = extra_stage
        self.relu_before_extra_convs = relu_before_extra_convs
        self.use_c5 = use_c5
        self.strides = [round(1 / scale) for scale in spatial_scales]
        self.strides += [self.strides[-1] * 2**i for i in range(1, extra_stage + 1)]
        self.out_channel = out_channel

        def conv(name: str, channels: int, kernel: int, fan_out: int, stride: int = 1) -> nn.Layer:
            initializer = XavierUniform(fan_out=fan_out)
            if norm_type is None:
                layer = Conv2D(
                    channels,
                    out_channel,
                    kernel,
                    stride=stride,
                    padding=kernel // 2,
                    weight_attr=ParamAttr(initializer=initializer),
                )
            else:
                layer = ConvNorm(
                    channels,
                    out_channel,
                    kernel,
                    stride=stride,
                    norm_type=norm_type,
                    freeze_norm=freeze_norm,
                    initializer=initializer,
                )
            return self.add_sublayer(name, layer)

        # Published names contain the number of the ResNet stage; the name of the topmost lateral convolution does not
        # end with "lateral".
        top = len(in_channels) - 1
        stages = [6 - len(in_channels) + i for i in range(len(in_channels))]
        self.lateral_convs = [
            conv(f"fpn_inner_res{s}_sum" + ("_lateral" if i < top else ""), in_channels[i], 1, in_channels[i])
            for i, s in enumerate(stages)
        ]
        self.fpn_convs = [conv(f"fpn_res{s}_sum", out_channel, 3, out_channel * 9) for s in stages]
        self.extra_convs = []
        for i in range(extra_stage if has_extra_convs else 0):
            channels = in_channels[-1] if use_c5 and i == 0 else out_channel
            self.extra_convs.append(conv(f"fpn_{i + 6}", channels, 3, out_channel * 9, stride=2))

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Sequence[ShapeSpec]) -> dict[str, list[Any]]:
        return {
            "in_channels": [spec.channels for spec in input_shape],
            "spatial_scales": [1.0 / spec.stride for spec in input_shape],
        }

    @property
    def out_shape(self) -> list[ShapeSpec]:
        return [ShapeSpec(self.out_channel, stride) for stride in self.strides]

    def forward(self, body_feats: Sequence[Tensor]) -> list[Tensor]:
        """Map the backbone's maps, finest first, to levels (N, out_channel, H / stride, W / stride), finest first."""
        feats = list(body_feats)
        extra_source = None
        if self.use_c5 and self.extra_convs:
            feats[-1], extra_source = duplicate_with_summed_gradient(feats[-1])
        levels: list[Tensor] = []
        above = None
        for i in range(len(feats) - 1, -1, -1):
            merged = self.lateral_convs[i](feats[i], residual=above)
            if i > 0:
                merged, below = duplicate_with_summed_gradient(merged)
                above = upsample_twice(below)
            levels.insert(0, self.fpn_convs[i](merged))
        if not self.extra_convs:
            return levels + [max_pool(levels[-1], 1, stride=2**i, padding=0) for i in range(1, self.extra_stage + 1)]
        for i, conv in enumerate(self.extra_convs):
            if extra_source is None:
                levels[-1], extra_source = duplicate_with_summed_gradient(levels[-1])
            relu = i > 0 and self.relu_before_extra_convs
            levels.append(conv(apply_relu(extra_source) if relu else extra_source))
            extra_source = None
        return levels
