"""Readers: data set -> batches of tensors, made in worker processes."""

import contextlib
import functools
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ppdet.core.workspace import register
from ppdet.data.loading.collate import REPORT, Collator, SampleSource, Task, separate_boxes
from ppdet.data.loading.padded_sizes import split_by_size
from ppdet.data.loading.sampler import EpochSampler
from ppdet.data.loading.to_device import ToDevice, take_normalize
from ppdet.data.loading.workers import WorkerPool
from ppdet.data.sources.dataset import DetectionDataset
from ppdet.data.transforms.color import NormalizeImage
from ppdet.data.windows import Cut, WindowSource
from ppdet.utils.errors import DataError, WorkerError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.cpu import can_fork

logger = get_logger(__name__)

MAX_UNREADABLE = 0.01  # share of the images a reader meets that may be unreadable
SHARED_BYTES_PER_IMAGE = 32 * 2**20  # addresses, not memory: an image of 1500 x 1800 as floats, or much larger as bytes


class BaseReader:
    """Iterates over the batches of one epoch of a data set on this rank.

    Args:
        dataset: what to read.
        sample_transforms, batch_transforms: see ppdet.data.transforms.
        batch_size: images per batch on each rank. Images to detect on are read so many at a time, and those of one
            padded size become a batch: what is detected in an image depends on no other one.
        shuffle: another order in every epoch.
        drop_last: leave out the last batch when it is not full.
        use_shared_memory: workers hand over their batches in memory shared with this process, otherwise through
            pipes, which is slower. /dev/shm is not used.
        collate_batch: pad the boxes of a batch to one array; false keeps a list of one array per image.
        fuse_normalize: an exported model normalises by itself. Reading is the same either way.
        inputs_def: {image_shape: [3, H, W]}, the input size of an exported model.
        num_classes: classes of the model; training data may not have more.
        worker_num: worker processes; 0 reads in this process, as Windows always does. Those of training are
            started once, by the first iteration.
        seed: of all random choices. What is drawn for an image depends on seed, epoch and image alone.
        rank, world_size: which share of the images to read.

    A batch is a dict of paddle tensors: `image` (N, 3, H, W) float32, `im_id` (N,) int64, `im_shape` (N, 2),
    `scale_factor` (N, 2) float32; in training also `gt_bbox` (N, M, 4) float32 padded with 0, `gt_class`
    (N, M) int32 padded with -1, `is_crowd` (N, M) where the records have it; and every other array that a
    transform puts into all samples, stacked. Fields that are not arrays, such as paths, stay out.

    `skipped` maps the path of every image that could not be read to the reason. Iterating raises DataError
    when these are at least 2 and more than 1 % of the images met, RuntimeError when a transform fails, and
    WorkerError (a DataError) when a worker dies.
    """

    __inject__ = ["sample_transforms", "batch_transforms"]
    __shared__ = ["num_classes"]
    training = False
    max_unreadable = MAX_UNREADABLE

    def __init__(
        self,
        *,
        dataset: DetectionDataset,
        sample_transforms: Sequence[Callable] = (),
        batch_transforms: Sequence[Callable] = (),
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        use_shared_memory: bool = True,
        collate_batch: bool = True,
        fuse_normalize: bool = False,
        inputs_def: dict[str, Any] | None = None,
        num_classes: int | None = None,
        worker_num: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        name = type(self).__name__
        if batch_size < 1:
            raise ValueError(f"{name}.batch_size is {batch_size}, expected at least 1")
        self.dataset = dataset
        self.sample_transforms = list(sample_transforms or ())
        self.batch_transforms = list(batch_transforms or ())
        self.batch_size = batch_size
        self.use_shared_memory = use_shared_memory
        self.collate_batch = collate_batch
        self.fuse_normalize = fuse_normalize
        self.inputs_def = inputs_def
        self.worker_num = worker_num
        self.skipped: dict[str, str] = {}
        self._epoch = self._first_batch = 0
        self._images = len({record["im_file"] for record in dataset.records})  # fewer than records with repeat
        self._met = 0  # images asked for since the start
        if self.training and num_classes is not None and len(dataset.class_names) > num_classes:
            raise DataError(
                f"{dataset.anno_path} has {len(dataset.class_names)} classes, the model {num_classes}: set num_classes"
            )
        self.sampler = self._make_sampler(
            size=len(dataset),
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            even=self.training,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )
        if self.training and not len(self.sampler):
            raise DataError(
                f"{len(dataset)} training images do not fill one batch: {name}.batch_size is {batch_size}"
                f" on each of {world_size} devices; lower it, or set drop_last to false"
            )
        max_skipped = max(1, int(self._images * MAX_UNREADABLE))
        samples, batches, normalize = self._pipeline()
        self._source = SampleSource(dataset.records, samples, seed, self.training, max_skipped)
        self._collate = Collator(batches, seed, self.training, raw_images=normalize is not None)
        self._to_device = ToDevice(normalize)
        self._pool: WorkerPool | None = None
        self._windows: WindowSource | None = None

    def _make_sampler(self, **options: Any) -> EpochSampler:
        return EpochSampler(**options)

    def _pipeline(self) -> tuple[list[Callable], list[Callable], NormalizeImage | None]:
        """Sample and batch transforms for the workers, and what the device does after them."""
        return take_normalize(self.sample_transforms, self.batch_transforms)

    def __len__(self) -> int:
        """Batches per epoch on this rank; images to detect on may come in more of them."""
        return len(self.sampler)

    @functools.cached_property
    def files(self) -> dict[int, str]:
        """The image file of every `im_id`."""
        return {int(record["im_id"].item()): record["im_file"] for record in self.dataset.records}

    def read_windows(self, cut: Cut) -> None:
        """Give windows of the images from now on, in place of whole images, and without boxes: to detect on.

        Batches then also hold `window` (N, 4) x1, y1, x2, y2 in pixels of the image, and `windows_left` (N,), how many
        of the image come later; and they may share an image. They are made in this process, one image after the other:
        what a large image takes, it takes once.
        """
        self._windows = WindowSource(self._source, cut)

    @property
    def reads_windows(self) -> bool:
        return self._windows is not None

    @functools.cached_property
    def image_count(self) -> int:
        """Images per epoch on this rank."""
        return sum(len(batch) for batch in self.sampler.batches(0))

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """The epoch that the next iteration reads, and the batch it starts with. It is not advanced by itself."""
        self._epoch, self._first_batch = epoch, first_batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        tasks = self._tasks(self._epoch)[self._first_batch :]
        self._met = min(self._images, self._met + sum(len(batch) for batch in tasks))
        counts: deque[list[int]] = deque()  # boxes of each image of the batches to come
        batches = self._to_device.read(functools.partial(self._batches, tasks, counts))
        try:
            for batch in batches:
                report = batch.pop(REPORT, None)
                if report is not None:
                    self._note(json.loads(bytes(report.numpy()).decode()))
                if batch:
                    yield batch if self.collate_batch else separate_boxes(batch, counts)
        finally:
            batches.close()

    def _tasks(self, epoch: int) -> list[list[Task]]:
        batches = self.sampler.batches(epoch)
        first = epoch * len(batches)
        return [[Task(epoch, first + step, i) for i in batch] for step, batch in enumerate(batches)]

    def _make(self, tasks: list[Task], empty: Callable = np.empty) -> dict[str, np.ndarray]:
        return self._collate([self._source[task] for task in tasks], empty)

    def _batches(self, tasks: list[list[Task]], counts: deque, finish: Callable) -> Iterator[Any]:
        """finish(arrays) for the arrays of each batch."""
        with contextlib.closing(
            self._split_batches(tasks, lambda arrays: self._split(arrays, counts, finish))
        ) as batches:
            for parts in batches:
                yield from parts

    def _split(self, arrays: dict[str, np.ndarray], counts: deque, finish: Callable) -> list[Any]:
        if "gt_class" in arrays:
            counts.append((arrays["gt_class"] >= 0).sum(axis=1).tolist())
        if self.training or "im_shape" not in arrays:
            return [finish(arrays)]
        report = {REPORT: arrays.pop(REPORT)} if REPORT in arrays else {}
        # Windows of an image come after each other, for their detections to be merged.
        parts = split_by_size(arrays, self.batch_transforms, in_order=self.reads_windows)
        return [finish({**part, **(report if part is parts[0] else {})}) for part in parts]

    def _split_batches(self, tasks: list[list[Task]], split: Callable) -> Iterator[list[Any]]:
        if self._windows is not None:
            images = [task for batch in tasks for task in batch]
            yield from (split(self._collate(batch)) for batch in self._windows.batches(images, self.batch_size))
            return
        if not self.worker_num or not tasks or not can_fork():
            yield from (split(self._make(batch)) for batch in tasks)
            return
        # Taken away while in use, since a second loop over this reader may run inside of the first.
        pool, self._pool = self._pool, None
        if pool is None or not pool.close.alive:
            room = self.batch_size * SHARED_BYTES_PER_IMAGE if self.use_shared_memory else 0
            pool = WorkerPool(self._make, self.worker_num, room)
        try:
            yield from pool.run(tasks, split)
        except WorkerError as error:
            if error.task is None:
                raise
            some = ", ".join(self.dataset.records[task.index]["im_file"] for task in error.task[:3])
            raise WorkerError(f"{error}; its images: {some}{', …' * (len(error.task) > 3)}", error.task) from None
        finally:
            # Training goes on. Workers of an evaluation, forked in the middle of training, would keep old memory alive.
            if self.training and self._pool is None:
                self._pool = pool
            else:
                pool.close()

    def _note(self, report: dict[str, Any]) -> None:
        for path, reason in report["skipped"].items():
            if path not in self.skipped:
                self.skipped[path] = reason
                logger.warning(f"image skipped: {path}: {reason}")
        if len(self.skipped) > max(1, self.max_unreadable * self._met):
            some = "; ".join(f"{path}: {reason}" for path, reason in list(self.skipped.items())[:3])
            raise DataError(
                f"{len(self.skipped)} of {self._met} images cannot be read, more than 1 %:"
                f" {some}{'; …' if len(self.skipped) > 3 else ''}. Check dataset_dir and image_dir"
            )
        if report["error"]:
            if "\n" in report["error"]:
                raise RuntimeError(f"reading data failed:\n{report['error']}")
            raise DataError(report["error"])


@register
class TrainReader(BaseReader):
    """Shuffled batches with targets, equally many on every rank.

    An unreadable image is replaced by the next readable one of the data set.
    """

    training = True

    def __init__(
        self,
        *,
        dataset: DetectionDataset,
        sample_transforms: Sequence[Callable] = (),
        batch_transforms: Sequence[Callable] = (),
        batch_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
        use_shared_memory: bool = True,
        collate_batch: bool = True,
        fuse_normalize: bool = False,
        inputs_def: dict[str, Any] | None = None,
        num_classes: int | None = None,
        worker_num: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if dataset.records and "gt_bbox" not in dataset.records[0]:
            raise DataError("TrainDataset.data_fields has no boxes: set it to [image, gt_bbox, gt_class, is_crowd]")
        super().__init__(
            dataset=dataset,
            sample_transforms=sample_transforms,
            batch_transforms=batch_transforms,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            use_shared_memory=use_shared_memory,
            collate_batch=collate_batch,
            fuse_normalize=fuse_normalize,
            inputs_def=inputs_def,
            num_classes=num_classes,
            worker_num=worker_num,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )


@register
class EvalReader(BaseReader):
    """Every image once, in the data set's order, without its boxes. Unreadable images are left out."""


@register
class TestReader(BaseReader):
    """As EvalReader, for images to detect on: any number of them may be unreadable."""

    max_unreadable = 1.0
