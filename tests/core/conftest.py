"""Toy components, and a fixture that writes YAML files for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest

from ppdet.core.config import Config, read_config
from ppdet.core.workspace import named, register, serializable


class Recorder:
    """Keeps its constructor's arguments as attributes."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


@register
@serializable
class ToyLoss(Recorder):
    def __init__(
        self,
        *,
        alpha: float = 0.25,
        quality: Literal["centerness", "iou"] = "centerness",
        weights: Sequence[float] | None = None,
    ) -> None:
        if alpha < 0:
            raise ValueError(f"alpha is {alpha}, it must not be negative")
        super().__init__(alpha=alpha, quality=quality, weights=weights)


@serializable
@register
class ToyFlip(Recorder):
    """Flips images. It is random.

    Args:
        prob: probability of
            a flip. It is at most 1.
    """

    __unused__ = {"trt": "flips need no TensorRT"}

    def __init__(self, *, prob: float = 0.5) -> None:
        super().__init__(prob=prob)


@register
class ToyResize(Recorder):
    def __init__(self, *, target_size: Sequence[int], keep_ratio: bool = True, interp: int = 1) -> None:
        super().__init__(target_size=target_size, keep_ratio=keep_ratio, interp=interp)


@register
class ToyBackbone(Recorder):
    __shared__ = ("norm_type",)

    def __init__(self, *, depth: int = 50, norm_type: str = "bn", return_idx: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__(depth=depth, norm_type=norm_type, return_idx=return_idx)
        self.out_shape = [depth * index for index in return_idx]


@register
class ToyHead(Recorder):
    __inject__ = (
        "loss",
        "nms",
    )
    __shared__ = ("num_classes",)

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        loss: ToyLoss = named("ToyLoss"),
        nms: Callable | None = None,
        num_classes: int = 80,
        stride: Sequence[int] = (8, 16),
        options: dict | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            loss=loss,
            nms=nms,
            num_classes=num_classes,
            stride=stride,
            options=options,
        )

    @classmethod
    def from_config(cls, cfg: Mapping, input_shape: Sequence[int]) -> dict:
        return {"in_channels": input_shape}


@register
class ToyDetector(Recorder):
    __inject__ = (
        "backbone",
        "head",
    )

    def __init__(self, *, backbone: Any = named("ToyBackbone"), head: Any = "ToyHead") -> None:
        super().__init__(backbone=backbone, head=head)

    @classmethod
    def from_config(cls, cfg: Any) -> dict:
        backbone = cfg.create("backbone")
        return {"backbone": backbone, "head": cfg.create("head", input_shape=backbone.out_shape)}


@register
class ToyReader(Recorder):
    __inject__ = ("transforms",)

    def __init__(self, *, dataset: Any, transforms: Sequence[Callable] = (), batch_size: int = 1) -> None:
        super().__init__(dataset=dataset, transforms=transforms, batch_size=batch_size)


@register
@serializable
class ToyDataSet(Recorder):
    def __init__(self, *, anno_path: str, dataset_dir: str = ".", fields: Sequence[str] = ("image",)) -> None:
        super().__init__(anno_path=anno_path, dataset_dir=dataset_dir, fields=fields)


@register
@serializable
class ToyFolder(Recorder):
    def __init__(self, *, dataset_dir: str | None = None) -> None:
        super().__init__(dataset_dir=dataset_dir)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write YAML files by name into an empty current folder, so that origins are plain file names."""
    monkeypatch.chdir(tmp_path)

    def _write(text: str, name: str = "x.yml") -> str:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return name

    return _write


@pytest.fixture
def load(write):
    """Write one YAML file, x.yml, and read it with overrides."""

    def _load(text: str = "", *overrides: str) -> Config:
        return read_config(write(text), overrides)

    return _load
