"""ResNet and ResNeXt, variants a to d, with frozen stages, frozen norms and deformable stages.

Sources: "Deep Residual Learning" (He et al., arXiv:1512.03385); "Aggregated Residual Transformations" (Xie et al.,
arXiv:1611.05431) for groups; "Bag of Tricks" (He et al., arXiv:1812.01187), section 4, for the variants.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import paddle.nn.functional as F
from paddle import Tensor, nn

from ppdet.core.workspace import register, serializable
from ppdet.modeling.architectures.base import ShapeSpec
from ppdet.modeling.layers import (
    ConvNorm,
    Freeze,
    add_residual_relu,
    avg_pool_2x2,
    bfloat16_to_float32_on_cpu,
    duplicate_with_summed_gradient,
    max_pool,
)
from ppdet.modeling.mixed import like_convolved
from ppdet.utils.ranges import require_choice, require_number
from ppdet.utils.resnet_names import DEPTHS, block_name

MAX_WIDTH = 1024  # channels of a 3x3 convolution in res2; res5 has eight times as many
STAGE_CHANNELS = (64, 128, 256, 512)  # channels of the 3x3 convolutions in res2 to res5, with width_mult 1


class SqueezeExcite(nn.Layer):
    """Squeeze-and-excitation with reduction 16: factors for the channels (Hu et al., arXiv:1709.01507, section 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 16)
        self.excitation = nn.Linear(channels // 16, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = bfloat16_to_float32_on_cpu(x)
        weight = F.relu(self.squeeze(x.mean(axis=[2, 3])))
        # In mixed precision, a float32 factor would make the map float32.
        factor = like_convolved(F.sigmoid(self.excitation(weight)))
        return x * factor.unsqueeze(-1).unsqueeze(-1)


class PooledShortcut(nn.Layer):
    """The shortcut of variant d in a block with stride 2: an average pool, then a 1x1 convolution with stride 1."""

    def __init__(self, in_channels: int, out_channels: int, **conv_norm: Any) -> None:
        super().__init__()
        self.conv = ConvNorm(in_channels, out_channels, 1, **conv_norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(avg_pool_2x2(x))


class BlockSettings(NamedTuple):
    """The settings that all blocks of a stage share.

    variant, groups, base_width: see `ResNet`.
    deformable: whether the 3x3 convolution is deformable.
    squeeze: whether blocks have squeeze-and-excitation.
    conv_norm: more arguments of every `ConvNorm`.
    """

    variant: str
    groups: int
    base_width: int
    deformable: bool
    squeeze: bool
    conv_norm: dict[str, Any]


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions and a shortcut (depth 18 and 34).

    Args:
        in_channels: channels of the input.
        channels: channels of the 3x3 convolutions.
        stride: 1 or 2.
        project: whether the shortcut is a convolution; otherwise it is the input.
        settings: what the stage's blocks share.
    """

    expansion = 1  # channels of the output / channels of the 3x3 convolutions

    def __init__(self, in_channels: int, channels: int, *, stride: int, project: bool, settings: BlockSettings) -> None:
        super().__init__()
        conv_norm = settings.conv_norm
        self.branch2a = ConvNorm(in_channels, channels, 3, stride=stride, **conv_norm)
        self.branch2b = ConvNorm(channels, channels, 3, deformable=settings.deformable, **conv_norm)
        self.short = make_shortcut(in_channels, channels, stride, settings) if project else None
        self.se = SqueezeExcite(channels) if settings.squeeze else None

    def forward(self, x: Tensor) -> Tensor:
        x, shortcut = duplicate_with_summed_gradient(x)
        y = self.branch2a(x, relu=True)
        return end_block(self.branch2b, y, shortcut, self.short, self.se)


class Bottleneck(nn.Layer):
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut (depth 50 and more). Arguments as in `BasicBlock`."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, *, stride: int, project: bool, settings: BlockSettings) -> None:
        super().__init__()
        groups, conv_norm = settings.groups, settings.conv_norm
        width = channels * settings.base_width // 64 * groups
        first, second = (stride, 1) if settings.variant == "a" else (1, stride)
        self.branch2a = ConvNorm(in_channels, width, 1, stride=first, **conv_norm)
        self.branch2b = ConvNorm(
            width, width, 3, stride=second, groups=groups, deformable=settings.deformable, **conv_norm
        )
        self.branch2c = ConvNorm(width, channels * 4, 1, **conv_norm)
        self.short = make_shortcut(in_channels, channels * 4, stride, settings) if project else None
        self.se = SqueezeExcite(channels * 4) if settings.squeeze else None

    def forward(self, x: Tensor) -> Tensor:
        x, shortcut = duplicate_with_summed_gradient(x)
        y = self.branch2b(self.branch2a(x, relu=True), relu=True)
        return end_block(self.branch2c, y, shortcut, self.short, self.se)


def make_shortcut(in_channels: int, out_channels: int, stride: int, settings: BlockSettings) -> nn.Layer:
    """The convolution that brings a block's input to the shape of its output."""
    if settings.variant == "d" and stride == 2:
        return PooledShortcut(in_channels, out_channels, **settings.conv_norm)
    return ConvNorm(in_channels, out_channels, 1, stride=stride, **settings.conv_norm)


def end_block(last: ConvNorm, y: Tensor, shortcut: Tensor, short: nn.Layer | None, se: nn.Layer | None) -> Tensor:
    """ReLU(se(last(y)) + short(shortcut)); `short` and `se` may be missing."""
    shortcut = shortcut if short is None else short(shortcut)
    return last(y, residual=shortcut, relu=True) if se is None else add_residual_relu(se(last(y)), shortcut, True)


@register
@serializable
class ResNet(nn.Layer):
    """The ResNet backbone.

    Args:
        depth: 18, 34, 50, 101 or 152.
        variant: `a`: stride 2 is in the first 1x1 convolution of a bottleneck. `b`: it is in the 3x3 convolution, as in
            torchvision. `c`: as b, with a stem of three 3x3 convolutions. `d`: as c, and shortcuts with stride 2 pool
            before their 1x1 convolution.
        lr_mult_list: four factors of the learning rate, for res2, res3, res4 and res5.
        groups: groups of the 3x3 convolutions: 1 for ResNet, 64 for ResNeXt 64x4d. Only depths with bottlenecks, 50 and
            more, have groups.
        base_width: channels of each group in res2, which double from stage to stage: 64 for ResNet, 4 for ResNeXt
            64x4d.
        width_mult: factor of the channels of every convolution, 0.25 to 1, for networks that are smaller and faster
            (Howard et al., arXiv:1704.04861, section 3.3). Published weights need 1.
        norm_type: norm after every convolution: batch norm, synchronized batch norm (over all ranks), or group norm.
        norm_decay: weight decay (L2) of the scales and biases of norms.
        freeze_norm: true: batch norms use their stored statistics and do not train. `statistics`: they use their stored
            statistics, but scale and bias train. false: they use the statistics of the batch and train.
        freeze_at: number of the last frozen stage; 0 freezes the stem and res2, 1 also res3, -1 nothing.
        return_idx: numbers of the stages to return, from 0 for res2 to 3 for res5.
        dcn_v2_stages: numbers of the stages whose 3x3 convolutions are modulated deformable ones; [-1] for none.
        num_stages: number of stages to build: 4 builds res2 to res5.
        std_senet: whether every block has squeeze-and-excitation.
    """

    __shared__ = ["norm_type"]

    def __init__(
        self,
        *,
        depth: int = 50,
        variant: Literal["a", "b", "c", "d"] = "b",
        lr_mult_list: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        groups: int = 1,
        base_width: int = 64,
        width_mult: float = 1.0,
        norm_type: Literal["bn", "sync_bn", "gn"] = "bn",
        norm_decay: float = 0.0,
        freeze_norm: Freeze = True,
        freeze_at: int = 0,
        return_idx: Sequence[int] = (1, 2, 3),
        dcn_v2_stages: Sequence[int] = (-1,),
        num_stages: int = 4,
        std_senet: bool = False,
    ) -> None:
        super().__init__()
        self.check_settings(
            depth=depth,
            variant=variant,
            groups=groups,
            base_width=base_width,
            width_mult=width_mult,
            lr_mult_list=lr_mult_list,
            num_stages=num_stages,
            return_idx=return_idx,
            freeze_at=freeze_at,
            norm_decay=norm_decay,
            dcn_v2_stages=dcn_v2_stages,
        )
        counts, bottleneck = DEPTHS[depth]
        block_type = Bottleneck if bottleneck else BasicBlock
        norm: dict[str, Any] = {"norm_type": norm_type, "norm_decay": norm_decay, "freeze_norm": freeze_norm}
        self.return_idx = sorted(set(return_idx))
        stem_channels, *self.channels = [scaled_channels(c, width_mult) for c in (64, *STAGE_CHANNELS)]
        self.conv1 = make_stem(variant, "conv1" if groups == 1 else "res_conv1", stem_channels, norm)
        self.stages = []
        in_channels = stem_channels
        for stage in range(num_stages):
            channels = self.channels[stage]
            conv_norm = {"lr_mult": lr_mult_list[stage], **norm}
            settings = BlockSettings(variant, groups, base_width, stage in dcn_v2_stages, std_senet, conv_norm)
            blocks = nn.Sequential()
            for i in range(counts[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                block = block_type(in_channels, channels, stride=stride, project=i == 0, settings=settings)
                blocks.add_sublayer(block_name(counts, stage + 2, i), block)
                in_channels = channels * block_type.expansion
            self.stages.append(self.add_sublayer(f"res{stage + 2}", blocks))
        self.frozen = [self.conv1, *self.stages[: freeze_at + 1]] if freeze_at >= 0 else []
        for layer in self.frozen:
            for parameter in layer.parameters():
                parameter.stop_gradient = True
        self.expansion = block_type.expansion

    @staticmethod
    def check_settings(
        *,
        depth: int,
        variant: str,
        groups: int,
        base_width: int,
        width_mult: float,
        lr_mult_list: Sequence[float],
        num_stages: int,
        return_idx: Sequence[int],
        freeze_at: int,
        norm_decay: float,
        dcn_v2_stages: Sequence[int],
    ) -> None:
        """Raise ValueError for arguments that are out of range or do not fit together."""
        require_choice("ResNet.depth", depth, list(DEPTHS))
        require_choice("ResNet.variant", variant, "abcd")
        require_number("ResNet.groups", groups, minimum=1)
        require_number("ResNet.base_width", base_width, minimum=1, maximum=MAX_WIDTH)
        require_number("ResNet.groups times base_width", groups * base_width, maximum=MAX_WIDTH)
        require_number("ResNet.width_mult", width_mult, minimum=0.25, maximum=1)
        if (groups, base_width) != (1, 64) and width_mult != 1:
            raise ValueError(f"ResNet.width_mult is {width_mult}; it needs groups 1 and base_width 64")
        require_number("ResNet.norm_decay", norm_decay, minimum=0)
        if (groups, base_width) != (1, 64) and not DEPTHS[depth][1]:
            raise ValueError(f"ResNet.groups and base_width need bottlenecks: depth 50 or more, not {depth}")
        require_number("ResNet.num_stages", num_stages, minimum=1, maximum=4)
        if len(lr_mult_list) != 4:
            raise ValueError(f"ResNet.lr_mult_list has {len(lr_mult_list)} values; it needs 4, for res2 to res5")
        for factor in lr_mult_list:
            require_number("ResNet.lr_mult_list", factor, minimum=0)
        for stage in dcn_v2_stages:
            require_number("ResNet.dcn_v2_stages", stage, minimum=-1, maximum=num_stages - 1)
        if not return_idx or len(return_idx) > num_stages or min(return_idx) < 0 or max(return_idx) >= num_stages:
            raise ValueError(f"ResNet.return_idx is {list(return_idx)}; values must be 0 to {num_stages - 1}")
        require_number("ResNet.freeze_at", freeze_at, minimum=-1, maximum=num_stages - 1)

    @property
    def out_shape(self) -> list[ShapeSpec]:
        return [ShapeSpec(self.channels[i] * self.expansion, 4 * 2**i) for i in self.return_idx]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W) to the maps of the stages in `return_idx`, (N, channels, H / stride, W / stride)."""
        x = images
        for conv in self.conv1:
            x = conv(x, relu=True)
        x = max_pool(x, 3, stride=2, padding=1)
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.return_idx:
                x, output = duplicate_with_summed_gradient(x)
                outputs.append(output)
        return outputs


def scaled_channels(channels: int, width_mult: float) -> int:
    """`channels` times `width_mult`, rounded to a multiple of 8, which the kernels of processors want; 8 at least."""
    return channels if width_mult == 1 else max(8, round(channels * width_mult / 8) * 8)


def make_stem(variant: str, prefix: str, channels: int, norm: dict[str, Any]) -> nn.Layer:
    """The convolutions before the first pooling, each followed by a ReLU.

    Args:
        prefix: start of their names in published weights, conv1 or res_conv1.
        channels: channels of the last one.
    """
    if variant in "cd":
        layers = [
            (f"{prefix}_1", ConvNorm(3, channels // 2, 3, stride=2, **norm)),
            (f"{prefix}_2", ConvNorm(channels // 2, channels // 2, 3, **norm)),
            (f"{prefix}_3", ConvNorm(channels // 2, channels, 3, **norm)),
        ]
    else:
        layers = [(prefix, ConvNorm(3, channels, 7, stride=2, **norm))]
    stem = nn.Sequential()
    for name, layer in layers:
        stem.add_sublayer(name, layer)
    return stem
