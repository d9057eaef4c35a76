"""Pictures of training batches without a model: what augmentation makes of the images, and where the targets are."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle

from ppdet.core.config import Config
from ppdet.engine.build import build_train_reader
from ppdet.engine.hooks.picture import normalization
from ppdet.engine.training.run_length import total_steps
from ppdet.utils.errors import ConfigError
from ppdet.visualize import draw_batch
from ppdet.visualize.draw import PANEL_WIDTH, batch_panels
from ppdet.visualize.pages import Picture, Section, Tag, gallery, tiles, write_page
from ppdet.visualize.pages.gallery import SHOWN

PAGE = "show.html"
MOST_OF_BATCH = 24  # pictures on the page
LOOK_AT = (
    "Are the boxes on the objects, with the right classes? Is no object cut away or left without a box? Has each box "
    "dots? Dots are positive locations, which are trained to find the box, in the color of their level. An object "
    "without dots is not learned: it is too small for the finest level, or smaller objects take its locations."
)


class ShownBatch(NamedTuple):
    """A batch that was drawn.

    path: of its picture. images, height, width: of the network's input. boxes: of all images of the batch.
    positives: positive locations of each stride, finest first. pictures: of its first images, for the page.
    """

    path: Path
    images: int
    height: int
    width: int
    boxes: int
    positives: dict[int, int]
    pictures: list[Picture]


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
    steps_per_epoch = max(1, len(reader) // cfg["accumulate_steps"])
    images_per_step = reader.batch_size * cfg["accumulate_steps"]
    reader.set_run_length(total_steps(cfg, steps_per_epoch, images_per_step) / steps_per_epoch)
    makers: list[Any] = [t for t in reader.batch_transforms if getattr(t, "makes_targets", False)]
    if not makers:
        raise ConfigError(f"{cfg.path}: the reader for training makes no training targets: add Gt2FCOSTarget")
    locations = makers[-1].locations
    reader.set_epoch(epoch)
    folder.mkdir(parents=True, exist_ok=True)
    names = reader.dataset.class_names
    files = {record["im_id"].item(): os.path.basename(record["im_file"]) for record in reader.dataset.records}
    look = normalization(reader)
    with contextlib.closing(iter(reader)) as all_batches:
        for number, batch in enumerate(itertools.islice(all_batches, batches), start=1):
            arrays = {name: value.numpy() for name, value in batch.items() if isinstance(value, paddle.Tensor)}
            path = folder / f"batch_{number}.jpg"
            draw_batch(arrays, path, locations=locations, class_names=names, **look)
            count, _, height, width = arrays["image"].shape
            ends = np.cumsum([grid.rows * grid.columns for grid in locations.levels(height, width)])
            labels = np.split(arrays["target_labels"], ends[:-1], axis=1)
            positives = {stride: int((part > 0).sum()) for stride, part in zip(locations.strides, labels)}
            boxes = int((arrays["gt_class"] >= 0).sum())
            panels = batch_panels(
                arrays,
                locations=locations,
                most=MOST_OF_BATCH,
                class_names=names,
                shrinks=PANEL_WIDTH / SHOWN,
                **look,
            )
            ids = arrays["im_id"].reshape(-1).tolist()
            pictures = [
                _picture(files.get(ids[place], ""), number, panel, positive, locations.strides, shown, names)
                for place, ((panel, positive), shown) in enumerate(zip(panels, arrays["gt_class"]))
            ]
            yield ShownBatch(path, count, height, width, boxes, positives, pictures)


def _picture(
    file: str,
    batch: int,
    panel: np.ndarray,
    positives: np.ndarray,
    strides: tuple[int, ...],
    classes: np.ndarray,
    names: list[str],
) -> Picture:
    """The picture of an image, with filters for its classes and for whether it has boxes and positive locations."""
    labels = classes[classes >= 0].tolist()
    kind = "no boxes" if not labels else "positive locations" if positives.any() else "boxes, no positive location"
    counts = ", ".join(f"stride {stride}: {count}" for stride, count in zip(strides, positives.tolist()) if count)
    caption = f"batch {batch}: {len(labels)} boxes, {counts or 'no positive location'}"
    tags = [Tag(names[label], kind) for label in sorted(set(labels))] or [Tag("", kind)]
    return Picture(file or f"image of batch {batch}", [("", panel)], tags, caption)


def write_show_page(folder: Path, shown: list[ShownBatch], title: str) -> Path:
    """Write FOLDER/show.html with a picture for each image of the batches, and return its path.

    Raises:
        OSError: it cannot be written; an older page stays.
    """
    totals = {stride: sum(batch.positives[stride] for batch in shown) for stride in shown[0].positives}
    numbers = {"images": sum(batch.images for batch in shown), "boxes": sum(batch.boxes for batch in shown)}
    levels = {f"positive at stride {stride}": count for stride, count in totals.items()}
    pictures = gallery(picture for batch in shown for picture in batch.pictures)
    section = Section("Images after augmentation", [tiles({**numbers, **levels}), pictures], LOOK_AT)
    write_page(folder / PAGE, "Training batches", [section], title)
    return folder / PAGE
