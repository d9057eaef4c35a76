"""From a file of another code base to a weights file, checked against a configuration's model."""

import os
from collections.abc import Iterable
from pathlib import Path

import paddle

from ppdet.convert import (
    Checkpoint,
    Conversion,
    ConversionError,
    convert_path,
    describe,
    fitting,
    needed,
    suggest,
    verify,
)
from ppdet.core.config import Config
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.engine.checkpoints.weights import save_weights
from ppdet.utils.formats.safetensors_file import SAFETENSORS

SUFFIXES = (".pdparams", SAFETENSORS)
SHOWN = 5


def convert_file(
    source: Path, target: Path, *, code_base: str = "auto", config: str | None = None, overrides: Iterable[str] = ()
) -> None:
    """Convert `source`, print what was done, and write `target`.

    Args:
        code_base: where the file comes from, a key of `ppdet.convert.CODE_BASES`, or auto.
        config: file of the configuration whose model it has to fit, with `overrides` on top.

    Raises:
        ConversionError: the file cannot be read or used, or does not fit; nothing was written then.
        ConfigError: a mistake in the configuration.
    """
    if target.suffix not in SUFFIXES:
        raise ConversionError(f"{target}: its name has to end in {' or '.join(SUFFIXES)}")
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise ConversionError(f"{target}: that is the file to convert: give another name")
    cfg = load_config(config, overrides) if config else None
    conversion, checkpoint = convert_path(source, code_base)
    print("\n".join([*describe(conversion), *suggest(conversion, checkpoint)]))
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
        print(f"names and shapes fit {config}")
        print("".join(f"WARNING: {line}\n" for line in contradictions(cfg, conversion, checkpoint)), end="")
    save_weights({name: paddle.to_tensor(array) for name, array in arrays.items()}, target)
    print(f"wrote {target}: {len(arrays)} arrays")


def contradictions(cfg: Config, conversion: Conversion, checkpoint: Checkpoint) -> list[str]:
    """What of `cfg` that no array tells is as in none of the configurations that the weights look made for."""
    found = []
    for name in fitting(conversion, checkpoint):
        ours, theirs = decisive(cfg), decisive(load_config(name))
        different = [f"{key} is {ours[key]}, there {theirs[key]}" for key in ours if ours[key] != theirs[key]]
        if not different:
            return []
        found.append(f"the weights look made for {name}; {', '.join(different)}")
    return found


def decisive(cfg: Config) -> dict:
    """The settings without which weights detect something else, or nothing."""
    head, backbone = cfg.component("FCOSHead"), cfg.component("ResNet")
    names = ("norm_reg_targets", "centerness_on_reg", "num_shift", "even_locations", "last_pixel", "sqrt_score")
    found = {"ResNet.variant": backbone["variant"], **{f"FCOSHead.{name}": head[name] for name in names}}
    transforms = cfg.component("EvalReader")["sample_transforms"] or []
    normalize = next((t["NormalizeImage"] or {} for t in transforms if "NormalizeImage" in t), {})
    return {**found, "the order of channels": normalize.get("channel_order", "rgb")}
