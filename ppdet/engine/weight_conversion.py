"""Converting a weights file of another code base, and checking it against the model of a configuration."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import paddle

from ppdet.convert import (
    Checkpoint,
    Conversion,
    ConversionError,
    convert_path,
    fitting,
    needed,
    suggest,
    summary_lines,
    verify,
)
from ppdet.core.config import Config
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.engine.checkpoints.weights import save_weights
from ppdet.utils.formats.safetensors_file import SAFETENSORS
from ppdet.utils.printable import printable

SUFFIXES = (".pdparams", SAFETENSORS)
SHOWN = 5


def convert_file(
    source: Path, target: Path, *, code_base: str = "auto", config: str | None = None, overrides: Iterable[str] = ()
) -> None:
    """Convert a weights file, and print what was done.

    Args:
        source: the file of the other code base, such as a .pth.
        target: the file to write, .pdparams or .safetensors.
        code_base: where the source comes from, a key of `ppdet.convert.CODE_BASES`; "auto" recognizes it.
        config: YAML file of the configuration whose model the weights must fit; None checks nothing.
        overrides: settings that override the configuration's, as "key=value".

    Raises:
        ConversionError: the file cannot be read or converted, or does not fit. Nothing is written.
        ConfigError: the configuration is invalid.
    """
    if target.suffix not in SUFFIXES:
        raise ConversionError(f"{target}: its name must end in {' or '.join(SUFFIXES)}")
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise ConversionError(f"{target}: this is the file to convert: give another name")
    cfg = load_config(config, overrides) if config else None
    conversion, checkpoint = convert_path(source, code_base)
    print("\n".join([*summary_lines(conversion), *suggest(conversion, checkpoint)]))
    arrays = conversion.arrays
    if cfg:
        shapes = {name: tuple(value.shape) for name, value in build_model(cfg).state_dict().items()}
        problems = verify(conversion, shapes)
        arrays = needed(conversion, shapes)
        if problems:
            print("\n".join(problems[:SHOWN] + ["…"] * (len(problems) > SHOWN)))
            raise ConversionError(
                f"{source}: does not fit {config}: {len(problems)} names; what to set is above. Nothing was written"
            )
        print(printable(f"names and shapes fit {config}"))
        print("".join(f"WARNING: {line}\n" for line in contradictions(cfg, conversion, checkpoint)), end="")
    save_weights({name: paddle.to_tensor(array) for name, array in arrays.items()}, target)
    print(printable(f"wrote {target}: {len(arrays)} arrays"))


def contradictions(cfg: Config, conversion: Conversion, checkpoint: Checkpoint) -> list[str]:
    """Return settings not visible in the weights that disagree with every matching published configuration.

    For example, weights of MMDetection's caffe models need `ResNet.variant: a`; their arrays also fit `b`, which gives
    wrong detections. The list is empty if one matching configuration agrees.
    """
    lines = []
    for name in fitting(conversion, checkpoint):
        ours, theirs = invisible_settings(cfg), invisible_settings(load_config(name))
        different = [f"{key} is {ours[key]}, there {theirs[key]}" for key in ours if ours[key] != theirs[key]]
        if not different:
            return []
        lines.append(f"the weights look made for {name}; {', '.join(different)}")
    return lines


def invisible_settings(cfg: Config) -> dict[str, Any]:
    """Return the settings that change detections, but neither the names nor the shapes of weights."""
    head, backbone = cfg.component("FCOSHead"), cfg.component("ResNet")
    names = ("norm_reg_targets", "centerness_on_reg", "num_shift", "even_locations", "last_pixel", "sqrt_score")
    values = {"ResNet.variant": backbone["variant"], **{f"FCOSHead.{name}": head[name] for name in names}}
    transforms = cfg.component("EvalReader")["sample_transforms"] or []
    normalize = next((t["NormalizeImage"] or {} for t in transforms if "NormalizeImage" in t), {})
    return {**values, "the order of channels": normalize.get("channel_order", "rgb")}
