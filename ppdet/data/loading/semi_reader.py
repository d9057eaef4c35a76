"""Batches of labelled and unlabelled images, each image in a weak and a strong view."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ppdet.core.workspace import register
from ppdet.data.loading.collate import Task
from ppdet.data.loading.reader import BaseReader
from ppdet.data.loading.sampler import EndlessSampler, EpochSampler
from ppdet.data.loading.to_device import take_normalize
from ppdet.data.sources.dataset import DetectionDataset
from ppdet.data.transforms.color import NormalizeImage, Permute
from ppdet.data.transforms.compose import Compose
from ppdet.utils.errors import DataError


class TwoViews:
    """A sample -> its strong and its weak view. Both start from the same pixels and share all else."""

    def __init__(self, strong: Sequence[Callable], weak: Sequence[Callable]) -> None:
        self.strong = Compose(strong)
        self.weak = Compose(weak)

    def __call__(self, sample: dict, rng: np.random.Generator) -> list[dict]:
        return [self.strong(dict(sample), rng), self.weak(dict(sample), rng)]


class ViewsReader(BaseReader):
    """Training batches with both views: a batch of N images has 2 N rows, the strong views, then the weak ones.

    Args:
        strong_aug, weak_aug: transforms that change nothing but pixels, after `sample_transforms`.
        batches_per_epoch: read on through the data set, so many batches an epoch; None: every image once an epoch.
        options: of BaseReader.
    """

    training = True

    def __init__(
        self,
        *,
        strong_aug: Sequence[Callable],
        weak_aug: Sequence[Callable],
        batches_per_epoch: int | None = None,
        **options: Any,
    ) -> None:
        self.strong_aug = list(strong_aug or ())
        self.weak_aug = list(weak_aug or ())
        self.batches_per_epoch = batches_per_epoch
        super().__init__(**options)

    def _make_sampler(self, **options: Any) -> EpochSampler | EndlessSampler:
        if self.batches_per_epoch is None:
            return super()._make_sampler(**options)
        names = ("size", "batch_size", "shuffle", "seed", "rank", "world_size")
        return EndlessSampler(batches_per_epoch=self.batches_per_epoch, **{name: options[name] for name in names})

    def _tasks(self, epoch: int) -> list[list[Task]]:
        if self.batches_per_epoch is None:
            return super()._tasks(epoch)
        # What is drawn for an image depends on the pass: it may come several times in an epoch.
        batches, first = self.sampler.batches(epoch), epoch * self.batches_per_epoch
        return [[Task(number, first + step, i) for number, i in batch] for step, batch in enumerate(batches)]

    def _pipeline(self) -> tuple[list[Callable], list[Callable], NormalizeImage | None]:
        views, normalizers = [], []
        for transforms in (self.strong_aug, self.weak_aug):
            chain = [*self.sample_transforms, *transforms]
            samples, batches, normalize = take_normalize(chain, self.batch_transforms)
            views.append(samples[len(self.sample_transforms) :])
            normalizers.append(normalize)
        if None in normalizers:
            views, batches, normalizers = [self.strong_aug, self.weak_aug], self.batch_transforms, [None]
        return [*self.sample_transforms, TwoViews(*views)], batches, normalizers[0]


@register
class SemiTrainReader:
    """Labelled batches, and with each one an unlabelled batch, for semi-supervised training.

    An image passes `sample_transforms` once; then `strong_aug` and `weak_aug` each make a view of it.

    Args:
        dataset, unlabeled: what to read.
        sample_transforms: shared by both views.
        weak_aug, strong_aug: transforms of pixels, which leave boxes where they are.
        sup_batch_transforms, unsup_batch_transforms: of labelled and of unlabelled batches.
        sup_batch_size, unsup_batch_size: images per batch on each rank; each of them comes in two views.
        shuffle, drop_last, use_shared_memory, collate_batch, num_classes, seed, rank, world_size: see TrainReader.
        accumulate_steps: batches that make one step; those at the end of an epoch that make none are not read.
        worker_num: worker processes of labelled images, and as many of unlabelled ones.

    A batch is that of TrainReader with 2 x sup_batch_size rows, strong views first; and `unlabeled`, one of
    2 x unsup_batch_size rows with `image`, `im_id`, `im_shape` and `scale_factor`. An epoch is one pass over the
    labelled images. The passes over the unlabelled ones go on from epoch to epoch: each has every image once.

    Raises DataError and RuntimeError as TrainReader does, ValueError for a view that moves pixels.
    """

    __inject__ = ["sample_transforms", "weak_aug", "strong_aug", "sup_batch_transforms", "unsup_batch_transforms"]
    __shared__ = ["num_classes"]

    def __init__(
        self,
        *,
        dataset: DetectionDataset,
        unlabeled: DetectionDataset,
        sample_transforms: Sequence[Callable] = (),
        weak_aug: Sequence[Callable] = (),
        strong_aug: Sequence[Callable] = (),
        sup_batch_transforms: Sequence[Callable] = (),
        unsup_batch_transforms: Sequence[Callable] = (),
        sup_batch_size: int = 1,
        unsup_batch_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
        use_shared_memory: bool = True,
        collate_batch: bool = True,
        num_classes: int | None = None,
        accumulate_steps: int = 1,
        worker_num: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if "gt_bbox" not in dataset.records[0]:
            raise DataError("TrainDataset.data_fields has no boxes: set it to [image, gt_bbox, gt_class, is_crowd]")
        for name, size in (("sup_batch_size", sup_batch_size), ("unsup_batch_size", unsup_batch_size)):
            if size < 1:
                raise ValueError(f"SemiTrainReader.{name} is {size}, expected at least 1")
        if drop_last and len(dataset) < sup_batch_size * world_size:
            raise DataError(
                f"{len(dataset)} labelled images do not fill one batch: SemiTrainReader.sup_batch_size is "
                f"{sup_batch_size} on each of {world_size} devices; lower it, or set drop_last to false"
            )
        for name, transforms in (("weak_aug", weak_aug), ("strong_aug", strong_aug)):
            check_view(name, transforms or ())
        check_alike(weak_aug or (), strong_aug or ())
        if any(hasattr(transform, "distances_in_strides") for transform in unsup_batch_transforms or ()):
            raise ValueError(
                "SemiTrainReader.unsup_batch_transforms: unlabelled images have no targets: remove Gt2FCOSTarget"
            )
        shared = {
            "sample_transforms": sample_transforms,
            "strong_aug": strong_aug,
            "weak_aug": weak_aug,
            "shuffle": shuffle,
            "use_shared_memory": use_shared_memory,
            "worker_num": worker_num,
            "rank": rank,
            "world_size": world_size,
        }
        self.dataset = dataset
        self.batch_size = sup_batch_size
        self.labeled = ViewsReader(
            dataset=dataset,
            batch_transforms=sup_batch_transforms,
            batch_size=sup_batch_size,
            drop_last=drop_last,
            collate_batch=collate_batch,
            num_classes=num_classes,
            seed=seed,
            **shared,
        )
        self.unlabeled = ViewsReader(
            dataset=unlabeled,
            batch_transforms=unsup_batch_transforms,
            batch_size=unsup_batch_size,
            batches_per_epoch=max(1, len(self.labeled) // accumulate_steps * accumulate_steps),
            seed=int(np.random.SeedSequence((seed, 1)).generate_state(1)[0]),  # not the labelled images' draws again
            **shared,
        )
        # What a supervised reader would be asked for.
        self.sample_transforms = [*self.labeled.sample_transforms, *self.labeled.weak_aug]
        self.batch_transforms = self.labeled.batch_transforms
        self.files = self.labeled.files
        self._first_batch = 0

    @property
    def skipped(self) -> dict[str, str]:
        """Path -> reason of every image, labelled or not, that could not be read."""
        return {**self.labeled.skipped, **self.unlabeled.skipped}

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        return len(self.labeled)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """See BaseReader."""
        self._first_batch = first_batch
        self.labeled.set_epoch(epoch, first_batch)
        self.unlabeled.set_epoch(epoch, first_batch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with contextlib.closing(iter(self.labeled)) as labeled, contextlib.closing(iter(self.unlabeled)) as unlabeled:
            expected, count = len(self.unlabeled) - self._first_batch, 0
            for batch, other in zip(labeled, unlabeled):
                count += 1
                yield {**batch, "unlabeled": other}
        # Ranks that made fewer steps than others would wait for them.
        if count < expected:
            raise DataError(
                f"{expected - count} of {expected} batches have no readable image: see those skipped, above"
            )


def check_view(name: str, transforms: Sequence[Callable]) -> None:
    """Raise ValueError for a transform of a view that may do more than change pixels, or that comes too late."""
    is_normalized = False
    for transform in transforms:
        if is_normalized and getattr(transform, "keeps_uint8", False):
            raise ValueError(
                f"SemiTrainReader.{name}: {type(transform).__name__} takes images as they are before NormalizeImage: "
                "list it first"
            )
        is_normalized = is_normalized or isinstance(transform, NormalizeImage)
        if not (getattr(transform, "pixels_only", False) or isinstance(transform, Permute)):
            raise ValueError(
                f"SemiTrainReader.{name}: {type(transform).__name__} may move pixels, so that the two views of an "
                "image would not match: put it into sample_transforms"
            )


def check_alike(weak: Sequence[Callable], strong: Sequence[Callable]) -> None:
    """Raise ValueError when the teacher would see images of another range than the student."""
    found = [[t for t in view if isinstance(t, NormalizeImage)] for view in (weak, strong)]
    if len(found[0]) != len(found[1]) or not all(one.equals(other) for one, other in zip(*found)):
        raise ValueError("SemiTrainReader: weak_aug and strong_aug must both end with the same NormalizeImage")
