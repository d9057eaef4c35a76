"""Whether converted arrays are those of a configuration's model, and what to set where they are not."""

from collections.abc import Mapping

import numpy as np

from ppdet.convert.conversion import Conversion
from ppdet.convert.network import Network


def verify(conversion: Conversion, shapes: Mapping[str, tuple]) -> list[str]:
    """A line for each name that does not fit, with what to set; none where all fit.

    shapes: of the model's state dict, by name. A backbone alone is compared with the model's backbone. What was made,
    and the model does not have, is no problem: it changes nothing.
    """
    network, lines = conversion.network, []
    shapes = compared(conversion, shapes)
    for name, array in needed(conversion, shapes).items():
        if name not in shapes:
            lines.append(f"{name} is in the file, not in the configuration's model: {advice(name, network)}")
        elif tuple(shapes[name]) != array.shape:
            sizes = f"{list(array.shape)} in the file, {list(shapes[name])} in the configuration's model"
            lines.append(f"{name} is {sizes}: {advice(name, network)}")
    incomplete = set(conversion.missing)
    for name in shapes:
        if name in incomplete:
            lines.append(f"{name} is not in the file, which is incomplete: no setting helps")
        elif name not in conversion.arrays:
            lines.append(f"{name} is not in the file: {advice(name, network)}")
    return lines


def needed(conversion: Conversion, shapes: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    """The converted arrays without those that were made, and that a model of such `shapes` does not have."""
    shapes = compared(conversion, shapes)
    return {name: a for name, a in conversion.arrays.items() if name in shapes or name not in conversion.made}


def compared(conversion: Conversion, shapes: Mapping[str, tuple]) -> Mapping[str, tuple]:
    """Of a model's `shapes` those of its backbone, without the leading `backbone.`, where that alone was converted."""
    prefix = "backbone."
    if conversion.network.num_classes is not None or not any(name.startswith(prefix) for name in shapes):
        return shapes
    return {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}


def advice(name: str, network: Network) -> str:
    """What to set for an array of this name to fit."""
    if name.startswith("fcos_head.fcos_head_cls."):
        return f"-o num_classes={network.num_classes}"
    if (".conv_offset." in name and name.startswith("fcos_head.")) or ".conv_dcn." in name:
        layers = f"layers {list(network.deformable_layers)}" if network.deformable_layers else "none"
        return f"of the towers' {network.tower_convs} layers (from 0), those deformable in the file: {layers}"
    if "_tower_conv_" in name and name.endswith(".conv.bias"):
        return f"-o FCOSHead.fcos_feat.num_convs={network.tower_convs} FCOSHead.fcos_feat.conv_bias=true"
    if "_tower_conv_" in name:
        return f"-o FCOSHead.fcos_feat.num_convs={network.tower_convs}, and its feat_in, feat_out and norm_type"
    if name.startswith("fcos_head."):
        return f"-o FCOSHead.fcos_feat.feat_out={network.pyramid_channels}, or FCOSHead.fpn_stride"
    if name.startswith("neck."):
        channels, from_c5 = network.pyramid_channels, str(network.extra_from_c5).lower()
        return f"-o FPN.out_channel={channels} FPN.use_c5={from_c5}, or FPN.extra_stage"
    settings = network.backbone_settings
    return f"-o {settings}" if settings else "ResNet.depth, groups, variant and num_stages"
