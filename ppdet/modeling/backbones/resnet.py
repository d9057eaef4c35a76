"""ResNet and ResNeXt, variants a to d, with frozen stages, frozen norm and deformable stages.

Sources: "Deep Residual Learning" (He et al., arXiv:1512.03385); "Aggregated Residual Transformations" (Xie et al.,
arXiv:1611.05431) for groups; "Bag of Tricks" (He et al., arXiv:1812.01187), section 4, for the variants.
"""

from collections.abc import Sequence
from typing import Literal

import paddle.nn.functional as F
from paddle import Tensor, nn

from ppdet.core.workspace import register, serializable
from ppdet.modeling.architectures.base import ShapeSpec
from ppdet.modeling.layers import ConvNorm, Freeze, finish, for_paddle, fork, halve, max_pool
from ppdet.modeling.mixed import like_convolved

# Blocks in res2 to res5, and whether they are bottlenecks.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
STAGE_CHANNELS = (64, 128, 256, 512)


class SqueezeExcite(nn.Layer):
    """Weighs channels by what the whole map holds (Hu et al., arXiv:1709.01507, section 3). Reduction 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // 16)
        self.excitation = nn.Linear(channels // 16, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = for_paddle(x)
        weight = F.relu(self.squeeze(x.mean(axis=[2, 3])))
        # In mixed precision a float32 factor would make the map float32.
        factor = like_convolved(F.sigmoid(self.excitation(weight)))
        return x * factor.unsqueeze(-1).unsqueeze(-1)


class PooledShortcut(nn.Layer):
    """Variant d's shortcut of a block with stride 2: average pool, then a 1x1 convolution without stride."""

    def __init__(self, in_channels: int, out_channels: int, **conv: object) -> None:
        super().__init__()
        self.conv = ConvNorm(in_channels, out_channels, 1, **conv)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(halve(x))


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions around a shortcut (depth 18 and 34)."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        project: bool,
        variant: str,
        groups: int,
        base_width: int,
        deformable: bool,
        squeeze: bool,
        **conv: object,
    ) -> None:
        super().__init__()
        self.branch2a = ConvNorm(in_channels, channels, 3, stride=stride, **conv)
        self.branch2b = ConvNorm(channels, channels, 3, deformable=deformable, **conv)
        self.short = make_shortcut(in_channels, channels, stride, variant, conv) if project else None
        self.se = SqueezeExcite(channels) if squeeze else None

    def forward(self, x: Tensor) -> Tensor:
        x, shortcut = fork(x)
        y = self.branch2a(x, relu=True)
        return close(self.branch2b, y, shortcut, self.short, self.se)


class Bottleneck(nn.Layer):
    """1x1, 3x3 and 1x1 convolutions around a shortcut (depth 50 and more)."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int,
        project: bool,
        variant: str,
        groups: int,
        base_width: int,
        deformable: bool,
        squeeze: bool,
        **conv: object,
    ) -> None:
        super().__init__()
        width = channels * base_width // 64 * groups
        first, second = (stride, 1) if variant == "a" else (1, stride)
        self.branch2a = ConvNorm(in_channels, width, 1, stride=first, **conv)
        self.branch2b = ConvNorm(width, width, 3, stride=second, groups=groups, deformable=deformable, **conv)
        self.branch2c = ConvNorm(width, channels * 4, 1, **conv)
        self.short = make_shortcut(in_channels, channels * 4, stride, variant, conv) if project else None
        self.se = SqueezeExcite(channels * 4) if squeeze else None

    def forward(self, x: Tensor) -> Tensor:
        x, shortcut = fork(x)
        y = self.branch2b(self.branch2a(x, relu=True), relu=True)
        return close(self.branch2c, y, shortcut, self.short, self.se)


def make_shortcut(in_channels: int, out_channels: int, stride: int, variant: str, conv: dict) -> nn.Layer:
    if variant == "d" and stride == 2:
        return PooledShortcut(in_channels, out_channels, **conv)
    return ConvNorm(in_channels, out_channels, 1, stride=stride, **conv)


def close(last: ConvNorm, y: Tensor, shortcut: Tensor, short: nn.Layer | None, se: nn.Layer | None) -> Tensor:
    """A block's end: its last convolution of y, plus the shortcut, through a ReLU."""
    shortcut = shortcut if short is None else short(shortcut)
    return last(y, residual=shortcut, relu=True) if se is None else finish(se(last(y)), shortcut, True)


@register
@serializable
class ResNet(nn.Layer):
    """ResNet feature extractor.

    Args:
        depth: 18, 34, 50, 101 or 152.
        variant: where stride 2 sits and how the stem looks: a (first 1x1 of a bottleneck), b (its 3x3), c (b with a
            stem of three 3x3), d (c, and shortcuts pool before their 1x1).
        lr_mult_list: multipliers of the learning rate in res2, res3, res4, res5.
        groups, base_width: 1 and 64 for ResNet; 64 and 4 for ResNeXt 64x4d. Bottlenecks only.
        norm_type: bn, sync_bn or gn. norm_decay: L2 factor of norm scales and biases.
        freeze_norm: batch norm uses stored statistics and does not train; `statistics`: it uses them, and its scale and
            bias train.
        freeze_at: last frozen stage, 0 for the stem and res2; -1 freezes nothing.
        return_idx: which of res2 (0) to res5 (3) to return.
        dcn_v2_stages: stages (1 is res3) whose 3x3 convolutions are modulated deformable ones.
        num_stages: how many of res2 to res5 to build.
        std_senet: squeeze-and-excitation in every block.
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
        check_arguments(depth, variant, groups, base_width, lr_mult_list, num_stages, return_idx, freeze_at)
        counts, bottleneck = DEPTHS[depth]
        block_type = Bottleneck if bottleneck else BasicBlock
        norm = {"norm_type": norm_type, "norm_decay": norm_decay, "freeze_norm": freeze_norm}
        self.return_idx = sorted(set(return_idx))
        self.conv1 = make_stem(variant, "conv1" if groups == 1 else "res_conv1", norm)
        self.stages = []
        in_channels = 64
        for stage in range(num_stages):
            channels = STAGE_CHANNELS[stage]
            blocks = nn.Sequential()
            for i in range(counts[stage]):
                first = i == 0
                block = block_type(
                    in_channels,
                    channels,
                    stride=2 if first and stage > 0 else 1,
                    project=first,
                    variant=variant,
                    groups=groups,
                    base_width=base_width,
                    deformable=stage in dcn_v2_stages,
                    squeeze=std_senet,
                    lr_mult=lr_mult_list[stage],
                    **norm,
                )
                blocks.add_sublayer(block_name(depth, stage, i), block)
                in_channels = channels * block_type.expansion
            self.stages.append(self.add_sublayer(f"res{stage + 2}", blocks))
        self.frozen = [self.conv1, *self.stages[: freeze_at + 1]] if freeze_at >= 0 else []
        for layer in self.frozen:
            for parameter in layer.parameters():
                parameter.stop_gradient = True
        self.expansion = block_type.expansion

    @property
    def out_shape(self) -> list[ShapeSpec]:
        return [ShapeSpec(STAGE_CHANNELS[i] * self.expansion, 4 * 2**i) for i in self.return_idx]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images (N, 3, H, W) to the maps of `return_idx`, (N, channels, H / stride, W / stride) each."""
        x = images
        for conv in self.conv1:
            x = conv(x, relu=True)
        x = max_pool(x, 3, stride=2, padding=1)
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.return_idx:
                x, output = fork(x)
                outputs.append(output)
        return outputs


def make_stem(variant: str, prefix: str, norm: dict) -> nn.Layer:
    """The layers before the first pooling, named as in published weights; each is followed by a ReLU."""
    if variant in "cd":
        layers = [
            (f"{prefix}_1", ConvNorm(3, 32, 3, stride=2, **norm)),
            (f"{prefix}_2", ConvNorm(32, 32, 3, **norm)),
            (f"{prefix}_3", ConvNorm(32, 64, 3, **norm)),
        ]
    else:
        layers = [(prefix, ConvNorm(3, 64, 7, stride=2, **norm))]
    stem = nn.Sequential()
    for name, layer in layers:
        stem.add_sublayer(name, layer)
    return stem


def block_name(depth: int, stage: int, index: int) -> str:
    """Published names count with letters (res4a, res4b), and in deep stages with numbers (res4a, res4b1, res4b2)."""
    if depth >= 101 and stage == 2:
        return f"res{stage + 2}a" if index == 0 else f"res{stage + 2}b{index}"
    return f"res{stage + 2}{chr(ord('a') + index)}"


def check_arguments(
    depth: int,
    variant: str,
    groups: int,
    base_width: int,
    lr_mult_list: Sequence[float],
    num_stages: int,
    return_idx: Sequence[int],
    freeze_at: int,
) -> None:
    if depth not in DEPTHS:
        raise ValueError(f"ResNet.depth is {depth}; it must be one of {', '.join(map(str, DEPTHS))}")
    if variant not in ("a", "b", "c", "d"):
        raise ValueError(f"ResNet.variant is {variant!r}; it must be a, b, c or d")
    if (groups, base_width) != (1, 64) and not DEPTHS[depth][1]:
        raise ValueError(f"ResNet.groups and base_width need bottlenecks: depth 50 or more, not {depth}")
    if not 1 <= num_stages <= 4:
        raise ValueError(f"ResNet.num_stages is {num_stages}; it must be 1 to 4")
    if len(lr_mult_list) != 4:
        raise ValueError(f"ResNet.lr_mult_list has {len(lr_mult_list)} values; it needs 4, for res2 to res5")
    if not return_idx or min(return_idx) < 0 or max(return_idx) >= num_stages:
        raise ValueError(f"ResNet.return_idx is {list(return_idx)}; values must be 0 to {num_stages - 1}")
    if not -1 <= freeze_at < num_stages:
        raise ValueError(f"ResNet.freeze_at is {freeze_at}; it must be -1 (nothing) to {num_stages - 1}")
