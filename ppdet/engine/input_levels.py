"""The input size and the feature levels that a configuration gives a detector."""

from typing import Any

from ppdet.core.config import Config
from ppdet.data.transforms.geometry import Resize
from ppdet.data.transforms.targets import Gt2FCOSTarget
from ppdet.utils.errors import ConfigError


def configured_levels(cfg: Config) -> tuple[tuple[int, int], Gt2FCOSTarget]:
    """Return the input size, shorter side and longer side, and the transform that makes the training targets.

    The size is that of EvalReader's Resize, since training may draw one of several sizes for each batch.

    Raises:
        ConfigError: EvalReader has no Resize, or TrainReader (with ssod_method, SemiTrainReader) no Gt2FCOSTarget.
    """
    resize = _first(cfg, "EvalReader", "sample_transforms", Resize)
    semi = bool(cfg["ssod_method"])
    reader, key = ("SemiTrainReader", "sup_batch_transforms") if semi else ("TrainReader", "batch_transforms")
    short, long = sorted(resize.target_size)
    return (short, long), _first(cfg, reader, key, Gt2FCOSTarget)


def _first(cfg: Config, reader: str, key: str, kind: type) -> Any:
    transforms = cfg.component(reader).create(key) or []
    found = next((transform for transform in transforms if isinstance(transform, kind)), None)
    if found is None:
        raise ConfigError(f"{cfg.path}: {reader}.{key} has no {kind.__name__}, which the check of a data set reads")
    return found
