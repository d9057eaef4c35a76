"""The input size and the feature levels that a configuration gives a detector."""

from typing import Any

from ppdet.core.config import Config
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.utils.errors import ConfigError


def configured_levels(cfg: Config) -> tuple[tuple[int, int] | None, Gt2FCOSTarget]:
    """Return the input size, shorter side and longer side, and the transform that makes the training targets.

    The size is that of EvalReader's Resize, since training may draw one of several sizes for each batch; None if it has
    no Resize, so that images keep their sizes.

    Raises:
        ConfigError: TrainReader (with ssod_method, SemiTrainReader) has no Gt2FCOSTarget.
    """
    resize = _first(cfg, "EvalReader", "sample_transforms", Resize)
    semi = bool(cfg["ssod_method"])
    reader, key = ("SemiTrainReader", "sup_batch_transforms") if semi else ("TrainReader", "batch_transforms")
    target = _first(cfg, reader, key, Gt2FCOSTarget)
    if target is None:
        raise ConfigError(f"{cfg.path}: {reader}.{key} has no Gt2FCOSTarget, which the check of a data set reads")
    if resize is None:
        return None, target
    short, long = sorted(resize.target_size)
    return (short, long), target


def _first(cfg: Config, reader: str, key: str, kind: type) -> Any:
    transforms = cfg.component(reader).create(key) or []
    return next((transform for transform in transforms if isinstance(transform, kind)), None)
