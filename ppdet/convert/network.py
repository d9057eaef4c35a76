"""Finds out from names and shapes which network a file holds, and turns numbered names into published names.

Numbered names, which the tables use, count blocks and layers: `backbone.res4.3.short`, `fcos_head.cls_tower.0`.
Published names are PaddleDetection's. They depend on the depth, the groups and the deformable layers of the network.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ppdet.utils.resnet_names import DEPTHS, block_name

NORM = ("weight", "bias", "_mean", "_variance")
AFFINE = ("weight", "bias")
CLASS_WEIGHT = "fcos_head.fcos_head_cls.weight"
BLOCK = re.compile(r"backbone\.res(\d)\.(\d+)\.(.+)")
TOWER = re.compile(r"fcos_head\.(cls|reg)_tower\.(\d+)\.(.+)")


class Network(NamedTuple):
    """The properties of a network that follow from its arrays.

    Attributes:
        blocks: number of blocks of res2, res3, ….
        bottleneck: whether blocks have three convolutions, otherwise two.
        groups, base_width: as in `ResNet`.
        deep_stem: whether the stem has three convolutions (variants c and d), otherwise one.
        pooled: whether shortcuts start with a pooling (variant d).
        deformable_stages: stages with deformable convolutions; 0 is res2.
        tower_convs: number of layers of each tower.
        deformable_layers: layers of the towers with deformable convolutions, from 0.
        num_classes: number of classes; None for a backbone alone.
        pyramid_channels: channels of the FPN's levels.
        extra_from_c5: whether P6 is computed from C5, otherwise from P5.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    groups: int
    base_width: int
    deep_stem: bool
    pooled: bool
    deformable_stages: tuple[int, ...]
    tower_convs: int
    deformable_layers: tuple[int, ...]
    num_classes: int | None
    pyramid_channels: int
    extra_from_c5: bool

    @property
    def depth(self) -> int | None:
        """The depth, 18 to 152; None if no published depth has these numbers of blocks."""
        return next((depth for depth, kind in DEPTHS.items() if kind == (self.blocks, self.bottleneck)), None)

    @property
    def backbone_settings(self) -> str:
        """The settings of ResNet, as after -o on the command line. Arrays do not show whether the variant is a or b."""
        settings: dict[str, object] = {"depth": self.depth} if self.depth else {}
        if self.deep_stem:
            settings["variant"] = "d" if self.pooled else "c"
        if self.groups > 1:
            settings.update({"groups": self.groups, "base_width": self.base_width})
        if self.deformable_stages:
            settings["dcn_v2_stages"] = f"[{','.join(map(str, self.deformable_stages))}]"
        return " ".join(f"ResNet.{key}={value}" for key, value in settings.items())


def network_of(shapes: Mapping[str, tuple]) -> Network:
    """Return the network whose arrays have these shapes, by numbered name."""
    blocks: dict[int, int] = {}
    layers = 0
    deformable_stages: set[int] = set()
    deformable_layers: set[int] = set()
    for name in shapes:
        block, tower = BLOCK.fullmatch(name), TOWER.fullmatch(name)
        if block:
            stage = int(block[1])
            blocks[stage] = max(blocks.get(stage, 0), int(block[2]) + 1)
            if ".conv_offset." in name:
                deformable_stages.add(stage - 2)
        elif tower:
            layers = max(layers, int(tower[2]) + 1)
            if ".conv_offset." in name:
                deformable_layers.add(int(tower[2]))
    classes = shapes.get(CLASS_WEIGHT)
    output, extra = shapes.get("neck.fpn_res3_sum.weight", (0,)), shapes.get("neck.fpn_6.weight", (0, 0))
    # (width, width / groups, 3, 3)
    width, group_width = (*shapes.get("backbone.res2.0.branch2b.conv.weight", ()), 64, 64)[:2]
    return Network(
        blocks=tuple(blocks[stage] for stage in sorted(blocks)),
        bottleneck="backbone.res2.0.branch2c.conv.weight" in shapes,
        groups=max(1, width // max(1, group_width)),
        base_width=group_width,
        deep_stem="backbone.conv1.conv1_1.conv.weight" in shapes,
        pooled=any(".pooled." in name for name in shapes),
        deformable_stages=tuple(sorted(deformable_stages)),
        tower_convs=layers,
        deformable_layers=tuple(sorted(deformable_layers)),
        num_classes=classes[0] if classes else None,
        pyramid_channels=output[0],
        extra_from_c5=extra[1:2] != extra[:1],
    )


def published_name(name: str, network: Network) -> str:
    """Return the published name of a numbered name."""
    block, tower = BLOCK.fullmatch(name), TOWER.fullmatch(name)
    if block:
        stage, index, rest = int(block[1]), int(block[2]), block[3]
        # After the pooling of a block with stride 2, PaddleDetection has a nested layer.
        rest = rest.replace("pooled.", "short." if stage == 2 else "short.conv.")
        return f"backbone.res{stage}.{block_name(network.blocks, stage, index)}.{rest}"
    if tower:
        kind, index, rest = tower[1], int(tower[2]), tower[3]
        if index in network.deformable_layers and rest in ("conv.weight", "conv.bias"):
            rest = rest.replace("conv.", "conv.conv_dcn.")
        return f"fcos_head.fcos_feat.fcos_head_{kind}_tower_conv_{index}.{rest}"
    if name.startswith("backbone.conv1."):
        part = name[len("backbone.conv1.") :]
        if network.deep_stem and part.startswith("conv1.norm."):
            part = part.replace(
                "conv1.", "conv1_3.", 1
            )  # timm names the last norm of the stem as if it were the only one
        return "backbone.conv1." + ("res_" if network.groups > 1 else "") + part
    return name


def numbered_names(network: Network) -> Iterator[str]:
    """Yield the numbered names of all parameters that the network has in this project."""
    for conv in ("conv1_1", "conv1_2", "conv1_3") if network.deep_stem else ("conv1",):
        yield from conv_norm(f"backbone.conv1.{conv}")
    for stage, count in enumerate(network.blocks, 2):
        for index in range(count):
            for branch in "abc" if network.bottleneck else "ab":
                yield from conv_norm(f"backbone.res{stage}.{index}.branch2{branch}")
            if stage - 2 in network.deformable_stages:
                yield from names_in(f"backbone.res{stage}.{index}.branch2b.conv_offset", AFFINE)
            if index == 0:
                yield from conv_norm(f"backbone.res{stage}.{index}.{'pooled' if network.pooled else 'short'}")
    if network.num_classes is None:
        return
    for layer in ("inner_res3_sum_lateral", "inner_res4_sum_lateral", "inner_res5_sum"):
        yield from names_in(f"neck.fpn_{layer}", AFFINE)
    for layer in ("res3_sum", "res4_sum", "res5_sum", "6", "7"):
        yield from names_in(f"neck.fpn_{layer}", AFFINE)
    for kind in ("cls", "reg"):
        for index in range(network.tower_convs):
            for layer in ("conv", "norm", *(["conv.conv_offset"] if index in network.deformable_layers else [])):
                yield from names_in(f"fcos_head.{kind}_tower.{index}.{layer}", AFFINE)
    for kind in ("cls", "reg", "centerness"):
        yield from names_in(f"fcos_head.fcos_head_{kind}", AFFINE)
    for level in range(3, 8):
        yield f"fcos_head.p{level}_feat.scale_reg"


def conv_norm(layer: str) -> Iterator[str]:
    """Yield the parameter names of a convolution with a batch norm."""
    yield f"{layer}.conv.weight"
    yield from names_in(f"{layer}.norm", NORM)


def names_in(layer: str, parts: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of the parameters `parts` of a layer."""
    return (f"{layer}.{part}" for part in parts)
