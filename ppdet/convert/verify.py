"""Compares converted arrays with the parameters of a configuration's model, and says which settings make them fit."""

from collections.abc import Mapping

import numpy as np

from ppdet.convert.conversion import Conversion
from ppdet.convert.network import Network


def verify(conversion: Conversion, shapes: Mapping[str, tuple]) -> list[str]:
    """Return a line for each parameter that does not fit, with the setting that makes it fit; none if all fit.

    Arrays that the conversion made and that the model does not have are no problem: they change nothing.

    Args:
        shapes: shapes of the model's parameters by name. If only a backbone was converted, it is compared with the
            model's backbone.
    """
    network, lines = conversion.network, []
    shapes = compared(conversion, shapes)
    for name, array in needed(conversion, shapes).items():
        if name not in shapes:
            lines.append(f"{name} is in the file, but not in the configuration's model: {advice(name, network)}")
        elif tuple(shapes[name]) != array.shape:
            sizes = f"{list(array.shape)} in the file, {list(shapes[name])} in the configuration's model"
            lines.append(f"{name} is {sizes}: {advice(name, network)}")
    incomplete = set(conversion.missing)
    for name in shapes:
        if name in incomplete:
            lines.append(f"{name} is not in the file: the file is incomplete, and no setting helps")
        elif name not in conversion.arrays:
            lines.append(f"{name} is not in the file: {advice(name, network)}")
    return lines


def needed(conversion: Conversion, shapes: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    """Return the converted arrays, without those that the conversion made and that are not in `shapes`."""
    shapes = compared(conversion, shapes)
    return {name: a for name, a in conversion.arrays.items() if name in shapes or name not in conversion.made}


def compared(conversion: Conversion, shapes: Mapping[str, tuple]) -> Mapping[str, tuple]:
    """Return a model's `shapes`; if only a backbone was converted, its backbone's shapes, without `backbone.`."""
    prefix = "backbone."
    if conversion.network.num_classes is not None or not any(name.startswith(prefix) for name in shapes):
        return shapes
    return {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}


def advice(name: str, network: Network) -> str:
    """Return the setting that decides on the existence or shape of a parameter."""
    if name.startswith("fcos_head.fcos_head_cls."):
        return f"-o num_classes={network.num_classes}"
    if (".conv_offset." in name and name.startswith("fcos_head.")) or ".conv_dcn." in name:
        layers = f"layers {list(network.deformable_layers)}" if network.deformable_layers else "none"
        return f"the towers have {network.tower_convs} layers, counted from 0; deformable ones in the file: {layers}"
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
