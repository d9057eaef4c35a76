"""Readers: they turn a data set into batches of tensors, prepared in worker processes."""

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from ppdet.core.contracts import require
from ppdet.core.workspace import register
from ppdet.data.loading.collate import REPORT, BatchMaker, Collator, SampleSource, Task, unpack_report
from ppdet.data.loading.kept_workers import KeptWorkers
from ppdet.data.loading.padded_sizes import split_by_size
from ppdet.data.loading.repeat_factors import repeat_factors
from ppdet.data.loading.sampler import EndlessSampler, EpochSampler, RepeatSampler
from ppdet.data.loading.several_images import UNTIL, Closing, check_until, images_per_sample
from ppdet.data.loading.to_device import ToDevice, split_off_normalize
from ppdet.data.loading.unreadable import MAX_UNREADABLE, add_skipped
from ppdet.data.loading.views import View
from ppdet.data.loading.windows import Cut, WindowSource
from ppdet.data.sources.dataset import DetectionDataset, require_boxes
from ppdet.data.transforms.base import Transform, growing, refuse_batches, refuse_moves, refuse_several
from ppdet.data.transforms.composing.order import check_order
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.utils.errors import DataError
from ppdet.utils.process.start import StartMethod
from ppdet.utils.ranges import MAX_BATCH, MAX_RECORDS, require_number

# Address space, not memory: 1500 x 1800 pixels as floats, or four times that as bytes.
SHARED_BYTES_PER_IMAGE = 32 * 2**20

# Parameters that the program supplies, and what sets them in a configuration.
GIVEN = {
    **{name: f"set the global setting {name} instead" for name in ("worker_num", "worker_start", "seed")},
    **dict.fromkeys(("rank", "world_size"), "it follows from the devices that the run uses (--gpus)"),
}
UNUSED = {"collate_batch": "the boxes of a batch are always padded to one array"}
ONLY_TRAINED = {
    "repeat_threshold": "only training reads images several times: set it in TrainReader",
    **dict.fromkeys(UNTIL, "only training joins images: set it in TrainReader"),
}
ONLY_EXPORTED = dict.fromkeys(("fuse_normalize", "inputs_def"), "only an exported model has it: set it in TestReader")

Finish = Callable[[dict[str, np.ndarray]], Any]  # arrays of a batch -> tensors


class BaseReader:
    """Iterates over the batches that this rank reads in one epoch.

    A batch is a dict of Paddle tensors: `image` (N, 3, H, W) float32, `im_id` (N,) int64, `im_shape` (N, 2) and
    `scale_factor` (N, 2) float32; in training also `gt_bbox` (N, M, 4) float32 padded with 0, `gt_class` (N, M) int32
    padded with -1, and `is_crowd` (N, M) where the records have it; and any other array that a transform adds to all
    samples, stacked. Fields that are not arrays, such as paths, are left out.

    `skipped` maps the path of every image that could not be read to the reason. Iterating raises a DataError when there
    are at least two of them and they exceed 1 % of the images read, a RuntimeError when a transform fails, and a
    WorkerError (a DataError) when a worker process dies.

    Args:
        dataset: the data set to read.
        sample_transforms: applied to each sample, see ppdet.data.transforms.
        batch_transforms: applied to the samples of a batch together.
        batch_size: images per batch on each rank. For detection, this many images are read at a time, and those of
            one padded size become a batch.
        shuffle: read the images in another order in every epoch. null: true for TrainReader, else false.
        drop_last: leave out the last batch if it is not full. null: true for TrainReader, else false.
        use_shared_memory: forked workers return their batches in shared memory. Others use pipes, which are slower.
        fuse_normalize: the exported model normalizes its input itself. Reading images does not change.
        repeat_threshold: read images with rare classes more often: an image whose rarest class is in a share f of the
            images comes max(1, sqrt(repeat_threshold / f)) times in an epoch on average (LVIS, arXiv:1908.03195,
            appendix B.2), so that epochs become longer. null: every image comes once.
        mosaic_epoch, mixup_epoch, cutmix_epoch: until when Mosaic (Mixup, Cutmix) is used, if sample_transforms has it:
            a number of epochs, or a share of the run, such as 85%; 0: to the end; -1: never. Afterwards, images pass it
            unchanged.
        inputs_def: input size of the exported model, for example {image_shape: [3, 640, 640]}; null, or -1 for height
            and width: any size. Reading images does not change.
        num_classes: number of the model's classes; training data may not have more.
        worker_num: number of worker processes; 0 reads in this process. Those of training live as long as the reader.
        worker_start: how worker processes start: fork, spawn, or auto. See ppdet.utils.process.start.
        seed: seed of all random numbers. Those of an image depend on seed, epoch and image alone.
        rank, world_size: number of this process, from 0, and of all processes. It reads every world_size-th image.
    """

    __inject__ = ["sample_transforms", "batch_transforms"]
    __given__ = {"dataset": "set TrainDataset, EvalDataset or TestDataset instead", **GIVEN}
    __unused__ = {**UNUSED, **ONLY_EXPORTED}
    __shared__ = ["num_classes"]
    training = False
    needs_boxes = False
    max_unreadable = MAX_UNREADABLE

    def __init__(
        self,
        *,
        dataset: DetectionDataset,
        sample_transforms: Sequence[Callable] = (),
        batch_transforms: Sequence[Callable] = (),
        batch_size: int = 1,
        shuffle: bool | None = None,
        drop_last: bool | None = None,
        use_shared_memory: bool = True,
        fuse_normalize: bool = False,
        repeat_threshold: float | None = None,
        mosaic_epoch: int | str = "85%",
        mixup_epoch: int | str = "85%",
        cutmix_epoch: int | str = "85%",
        inputs_def: dict[str, Any] | None = None,
        num_classes: int | None = None,
        worker_num: int = 0,
        worker_start: StartMethod = "auto",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        name = type(self).__name__
        if self.needs_boxes:
            require_boxes(dataset)
        require_number(f"{name}.batch_size", batch_size, minimum=1, maximum=MAX_BATCH)
        if self.training and num_classes is not None and len(dataset.class_names) > num_classes:
            raise DataError(
                f"{dataset.anno_path} has {len(dataset.class_names)} classes, the model {num_classes}: set num_classes"
            )
        self.dataset = dataset
        self.sample_transforms = list(sample_transforms or ())
        self.batch_transforms = list(batch_transforms or ())
        for transform in (*self.sample_transforms, *self.batch_transforms):
            require(transform, Transform, name, only=("__call__",))
        refuse_batches(self.sample_transforms, f"{name}.sample_transforms")
        refuse_several(self.batch_transforms, f"{name}.batch_transforms")
        refuse_several(() if self.training else self.sample_transforms, f"{name}.sample_transforms")
        refuse_moves(() if self.training else (*self.sample_transforms, *self.batch_transforms), name)
        check_order((*self.sample_transforms, *self.batch_transforms), name)
        self.closing = Closing(self.sample_transforms, check_until(name, (mosaic_epoch, mixup_epoch, cutmix_epoch)))
        self.batch_size = batch_size
        self.repeat_threshold = repeat_threshold
        self.worker_num = worker_num
        self.skipped: dict[str, str] = {}
        self._epoch = self._first_batch = self._images_read = 0
        self._images = len({record["im_file"] for record in dataset.records})  # fewer than records with repeat
        self.sampler = self._make_sampler(
            size=len(dataset),
            batch_size=batch_size,
            shuffle=self.training if shuffle is None else shuffle,
            drop_last=self.training if drop_last is None else drop_last,
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
        samples, batches, normalizer = self._pipeline()
        source = SampleSource(dataset.records, samples, seed, self.training, max_skipped)
        self._make = BatchMaker(source, Collator(batches, seed, self.training, raw_images=normalizer is not None))
        self._to_device = ToDevice(normalizer)
        slot_bytes = batch_size * SHARED_BYTES_PER_IMAGE if use_shared_memory else 0
        self._workers = KeptWorkers(self._make, worker_num, slot_bytes, worker_start, keep=self.training)
        self._windows: WindowSource | None = None

    def _make_sampler(self, **options: Any) -> EpochSampler | EndlessSampler:
        if self.repeat_threshold is None:
            return EpochSampler(**options)
        name = f"{type(self).__name__}.repeat_threshold"
        require_number(name, self.repeat_threshold, above=0, maximum=1)
        factors = repeat_factors(self.dataset, self.repeat_threshold, announce=options["rank"] == 0)
        require_number(f"the number of images in an epoch that {name} makes", factors.sum(), maximum=MAX_RECORDS)
        return RepeatSampler(factors=factors, **options)

    def _pipeline(self) -> tuple[list[Callable], list[Callable], NormalizeImage | None]:
        """Sample and batch transforms for the workers, and the normalization that the device does after them."""
        return split_off_normalize(self.sample_transforms, self.batch_transforms)

    def __len__(self) -> int:
        """Batches per epoch on this rank. Images to detect on may come in more batches, see `batch_size`."""
        return len(self.sampler)

    @property
    def growing(self) -> dict[str, int]:
        """For each transform whose probability grows, by its class's name: the training step until which it does."""
        return growing([*self.sample_transforms, *self.batch_transforms])

    @functools.cached_property
    def files(self) -> dict[int, str]:
        """`im_id` -> path of the image."""
        return {int(record["im_id"].item()): record["im_file"] for record in self.dataset.records}

    def read_windows(self, cut: Cut) -> None:
        """From now on, read windows of the images in place of whole images, to detect on.

        Batches then also hold `window` (N, 4) x1, y1, x2, y2 in pixels of the image, and `windows_left` (N,), how many
        windows of the same image come later. A batch may have windows of several images. They are made in this process,
        with one image in memory at a time.
        """
        self._windows = WindowSource(self._make.source, cut)

    @property
    def reads_windows(self) -> bool:
        return self._windows is not None

    def read_views(self, views: Sequence[View]) -> None:
        """From now on, read several views of each image, to detect on.

        A batch has the same view of `batch_size` images; the batches after it have the other views of these images.
        Batches then also hold `views_left` (N,), how many views of the same image come later.
        """
        self._make.source.use_views(views)

    @functools.cached_property
    def image_count(self) -> int:
        """Images per epoch on this rank."""
        return sum(len(batch) for batch in self.sampler.batches(0))

    def set_run_length(self, epochs: float) -> None:
        """Say how many epochs the run has, to which shares such as mosaic_epoch's 85% refer; without it, to no end."""
        self.closing.run_epochs = epochs

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch that the next iteration reads, and its first batch. Iterating does not change it."""
        self._epoch, self._first_batch = epoch, first_batch

    def __iter__(self) -> Generator[dict[str, Any], None, None]:
        tasks = self._tasks(self._epoch)[self._first_batch :]
        read = sum(task.view == 0 for batch in tasks for task in batch) * images_per_sample(self.sample_transforms)
        self._images_read = min(self._images, self._images_read + read)
        with contextlib.closing(self._to_device.read(functools.partial(self._batches, tasks))) as batches:
            for batch in batches:
                report = batch.pop(REPORT, None)
                if report is not None:
                    self._handle_report(*unpack_report(report.numpy()))
                if batch:
                    yield batch

    def _tasks(self, epoch: int) -> list[list[Task]]:
        batches = self.sampler.batches(epoch)
        tasks = []
        for step, batch in enumerate(batches, start=epoch * len(batches)):
            closed = self.closing.closed(step, len(batches))
            for view in range(len(self._make.source.transforms)):
                tasks.append([Task(number, step, i, view, closed) for number, i in batch])
        return tasks

    def _batches(self, tasks: list[list[Task]], finish: Finish) -> Generator[Any, None, None]:
        """Yield finish(arrays) for the arrays of each batch."""
        with contextlib.closing(self._split_batches(tasks, functools.partial(self._split, finish))) as batches:
            for parts in batches:
                yield from parts

    def _split(self, finish: Finish, arrays: dict[str, np.ndarray]) -> list[Any]:
        if self.training or "im_shape" not in arrays:
            return [finish(arrays)]
        report = {REPORT: arrays.pop(REPORT)} if REPORT in arrays else {}
        # Windows of one image stay together, so that their detections can be merged.
        parts = split_by_size(arrays, self.batch_transforms, in_order=self.reads_windows)
        return [finish({**part, **(report if part is parts[0] else {})}) for part in parts]

    def _split_batches(self, tasks: list[list[Task]], split: Finish) -> Generator[list[Any], None, None]:
        if self._windows is not None:
            images = [task for batch in tasks for task in batch]
            yield from (split(self._make.collate(batch)) for batch in self._windows.batches(images, self.batch_size))
            return
        if not self.worker_num or not tasks:
            yield from (split(self._make(batch)) for batch in tasks)
            return
        yield from self._workers.run(tasks, split)

    def _handle_report(self, skipped: dict[str, str], error: str) -> None:
        add_skipped(self.skipped, skipped, self._images_read, self.max_unreadable)
        if "\n" in error:
            raise RuntimeError(f"reading data failed:\n{error}")
        if error:
            raise DataError(error)


@register
class TrainReader(BaseReader):
    """Reads shuffled batches with targets, the same number on every rank.

    An image that cannot be read is replaced by the next readable one of the data set.
    """

    training = needs_boxes = True

    @staticmethod
    def check_settings(mosaic_epoch: int | str, mixup_epoch: int | str, cutmix_epoch: int | str) -> None:
        """Raise ValueError for a setting that is neither a number of epochs nor a share of the run."""
        check_until("TrainReader", (mosaic_epoch, mixup_epoch, cutmix_epoch))


@register
class EvalReader(BaseReader):
    """Reads every image once, in the order of the data set, without its boxes. Unreadable images are left out."""

    __unused__ = {**UNUSED, **ONLY_EXPORTED, **ONLY_TRAINED}


@register
class TestReader(BaseReader):
    """Like EvalReader, for images to detect on: any number of them may be unreadable."""

    __unused__ = {**UNUSED, **ONLY_TRAINED}
    max_unreadable = 1.0
