"""Pictures of training batches without a model: what augmentation makes of the images, and where the targets are."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle

from ppdet.core.config import Config
from ppdet.engine.build import build_train_reader
from ppdet.engine.hooks.picture import normalization
from ppdet.utils.errors import ConfigError
from ppdet.visualize import draw_batch


class ShownBatch(NamedTuple):
    """A batch that was drawn.

    path: of its picture. images, height, width: of the network's input. boxes: of all images of the batch.
    positives: positive locations of each stride, finest first.
    """

    path: Path
    images: int
    height: int
    width: int
    boxes: int
    positives: dict[int, int]


def draw_batches(cfg: Config, folder: Path, batches: int, epoch: int = 0) -> Iterator[ShownBatch]:
    """Write FOLDER/batch_1.jpg and so on: the first batches that an epoch of training reads, the same in every call.

    Args:
        batches: their number; an epoch may have fewer.
        epoch: counted from 0.

    Raises:
        ConfigError, DataError: see `build_train_reader`; the reader makes no training targets; images are unreadable.
        OSError: a picture cannot be written.
    """
    reader = build_train_reader(cfg)
    makers: list[Any] = [t for t in reader.batch_transforms if getattr(t, "makes_targets", False)]
    if not makers:
        raise ConfigError(f"{cfg.path}: the reader for training makes no training targets: add Gt2FCOSTarget")
    locations = makers[-1].locations
    reader.set_epoch(epoch)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(iter(reader)) as all_batches:
        for number, batch in enumerate(itertools.islice(all_batches, batches), start=1):
            arrays = {name: value.numpy() for name, value in batch.items() if isinstance(value, paddle.Tensor)}
            path = folder / f"batch_{number}.jpg"
            names = reader.dataset.class_names
            draw_batch(arrays, path, locations=locations, class_names=names, **normalization(reader))
            count, _, height, width = arrays["image"].shape
            ends = np.cumsum([grid.rows * grid.columns for grid in locations.levels(height, width)])
            labels = np.split(arrays["target_labels"], ends[:-1], axis=1)
            positives = {stride: int((part > 0).sum()) for stride, part in zip(locations.strides, labels)}
            yield ShownBatch(path, count, height, width, int((arrays["gt_class"] >= 0).sum()), positives)
