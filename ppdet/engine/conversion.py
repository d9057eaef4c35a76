"""From a file of another code base to a weights file, checked against a configuration's model."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import paddle

from ppdet.convert import ConversionError, convert, describe, needed, read_checkpoint, suggest, verify
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model
from ppdet.engine.weights import save_weights
from ppdet.utils.safetensors_file import SAFETENSORS

SUFFIXES = (".pdparams", SAFETENSORS)
SHOWN = 5


def convert_file(
    source: Path, target: Path, *, code_base: str = "auto", config: Optional[str] = None, overrides: Iterable[str] = ()
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
    checkpoint = read_checkpoint(source)
    try:
        conversion = convert(checkpoint, code_base)
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}") from None
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
        print(f"fits {config}")
    save_weights({name: paddle.to_tensor(array) for name, array in arrays.items()}, target)
    print(f"wrote {target}: {len(arrays)} arrays")
