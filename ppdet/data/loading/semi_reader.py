"""Reading labeled and unlabeled batches for semi-supervised training, each image in a weak and a strong view."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from ppdet.core.workspace import register
from ppdet.data.loading.reader import GIVEN, UNUSED, BaseReader
from ppdet.data.loading.sampler import EndlessSampler, EpochSampler
from ppdet.data.loading.several_images import Closing, check_until
from ppdet.data.loading.to_device import split_off_normalize
from ppdet.data.sources.dataset import DetectionDataset, require_boxes
from ppdet.data.transforms.base import growing, has_property, refuse_batches, refuse_several
from ppdet.data.transforms.composing.compose import Compose
from ppdet.data.transforms.composing.order import check_order
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.utils.errors import DataError
from ppdet.utils.process.start import StartMethod
from ppdet.utils.ranges import MAX_BATCH, require_number


class TwoViews:
    """Makes the strong and the weak view of a sample. Both start from the same pixels, and share all other fields."""

    def __init__(self, strong: Sequence[Callable], weak: Sequence[Callable]) -> None:
        self.strong = Compose(strong)
        self.weak = Compose(weak)

    def __call__(self, sample: dict, rng: np.random.Generator) -> list[dict]:
        return [self.strong(dict(sample), rng), self.weak(dict(sample), rng)]


class ViewsReader(BaseReader):
    """Reads training batches with both views: a batch of N images has 2 N rows, all strong views, then all weak ones.

    Args:
        strong_aug: transforms of the strong view, applied after `sample_transforms`. They change pixel values only.
        weak_aug: the same of the weak view.
        batches_per_epoch: read this many batches in an epoch, and continue there in the next one. None: read every
            image once in an epoch.
        options: parameters of BaseReader.
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

    @property
    def growing(self) -> dict[str, int]:
        return {**super().growing, **growing([*self.strong_aug, *self.weak_aug])}

    def _make_sampler(self, **options: Any) -> EpochSampler | EndlessSampler:
        if self.batches_per_epoch is None:
            return super()._make_sampler(**options)
        names = ("size", "batch_size", "shuffle", "seed", "rank", "world_size")
        return EndlessSampler(batches_per_epoch=self.batches_per_epoch, **{name: options[name] for name in names})

    def _pipeline(self) -> tuple[list[Callable], list[Callable], NormalizeImage | None]:
        views, normalizers, batches = [], [], self.batch_transforms
        for transforms in (self.strong_aug, self.weak_aug):
            chain = [*self.sample_transforms, *transforms]
            samples, batches, normalizer = split_off_normalize(chain, self.batch_transforms)
            views.append(samples[len(self.sample_transforms) :])
            normalizers.append(normalizer)
        if None in normalizers:
            views, batches, normalizers = [self.strong_aug, self.weak_aug], self.batch_transforms, [None]
        return [*self.sample_transforms, TwoViews(*views)], batches, normalizers[0]


@register
class SemiTrainReader:
    """Reads labeled batches, each together with an unlabeled one, for semi-supervised training.

    An image passes `sample_transforms` once; then `strong_aug` and `weak_aug` each make a view of it.

    A batch is like TrainReader's, with 2 x sup_batch_size rows, strong views first. Its entry `unlabeled` is a batch of
    2 x unsup_batch_size rows with `image`, `im_id`, `im_shape` and `scale_factor`. An epoch is one pass over the
    labeled images (a longer one with `repeat_threshold`). The passes over the unlabeled images continue from epoch to
    epoch, so that each is read once before any is read again.

    It raises DataError and RuntimeError like TrainReader, and ValueError for a view that may move pixels.

    Args:
        dataset: the labeled data set.
        unlabeled: the unlabeled data set.
        sample_transforms: applied to every sample, before the views are made.
        weak_aug: transforms of the weak view. They change pixel values only.
        strong_aug: transforms of the strong view. They change pixel values only.
        sup_batch_transforms: applied to labeled batches.
        unsup_batch_transforms: applied to unlabeled batches.
        sup_batch_size: labeled images per batch on each rank, each in two views.
        unsup_batch_size: unlabeled images per batch on each rank, each in two views.
        shuffle: read the images of both data sets in another order in every epoch.
        drop_last: leave out the last batch of labeled images if it is not full.
        use_shared_memory: forked workers return their batches in shared memory. Others use pipes, which are slower.
        repeat_threshold: read labeled images with rare classes more often, see TrainReader; null: each comes once.
        mosaic_epoch, mixup_epoch, cutmix_epoch: see TrainReader. Labeled images are joined with labeled ones, and
            unlabeled images with unlabeled ones.
        num_classes: number of the model's classes; the labeled data set may not have more.
        accumulate_steps: number of batches in one update; those at the end of an epoch that are too few for an update
            are not read.
        worker_num: worker processes for labeled images, and as many for unlabeled ones.
        worker_start, seed, rank, world_size: see `BaseReader`.
    """

    __inject__ = ["sample_transforms", "weak_aug", "strong_aug", "sup_batch_transforms", "unsup_batch_transforms"]
    __shared__ = ["num_classes"]
    __given__ = {
        "dataset": "set TrainDataset instead",
        "unlabeled": "set UnsupTrainDataset instead",
        "accumulate_steps": "set the global setting accumulate_steps instead",
        **GIVEN,
    }
    __unused__ = UNUSED

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
        repeat_threshold: float | None = None,
        mosaic_epoch: int | str = "85%",
        mixup_epoch: int | str = "85%",
        cutmix_epoch: int | str = "85%",
        num_classes: int | None = None,
        accumulate_steps: int = 1,
        worker_num: int = 0,
        worker_start: StartMethod = "auto",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        require_boxes(dataset)
        for name, size in (("sup_batch_size", sup_batch_size), ("unsup_batch_size", unsup_batch_size)):
            require_number(f"SemiTrainReader.{name}", size, minimum=1, maximum=MAX_BATCH)
        if drop_last and len(dataset) < sup_batch_size * world_size:
            raise DataError(
                f"{len(dataset)} labeled images do not fill one batch: SemiTrainReader.sup_batch_size is "
                f"{sup_batch_size} on each of {world_size} devices; lower it, or set drop_last to false"
            )
        self.check_settings(mosaic_epoch, mixup_epoch, cutmix_epoch)
        refuse_batches(sample_transforms or (), "SemiTrainReader.sample_transforms")
        refuse_several(sup_batch_transforms or (), "SemiTrainReader.sup_batch_transforms")
        refuse_several(unsup_batch_transforms or (), "SemiTrainReader.unsup_batch_transforms")
        check_view("weak_aug", weak_aug or ())
        check_view("strong_aug", strong_aug or ())
        for view in (weak_aug, strong_aug):
            for batch_transforms in (sup_batch_transforms, unsup_batch_transforms):
                check_order([*(sample_transforms or ()), *(view or ()), *(batch_transforms or ())], "SemiTrainReader")
        check_same_normalization(weak_aug or (), strong_aug or ())
        if any(has_property(transform, "makes_targets") for transform in unsup_batch_transforms or ()):
            raise ValueError(
                "SemiTrainReader.unsup_batch_transforms: unlabeled images have no targets: remove Gt2FCOSTarget"
            )
        shared: dict[str, Any] = {
            "sample_transforms": sample_transforms,
            "strong_aug": strong_aug,
            "weak_aug": weak_aug,
            "shuffle": shuffle,
            "use_shared_memory": use_shared_memory,
            "mosaic_epoch": mosaic_epoch,
            "mixup_epoch": mixup_epoch,
            "cutmix_epoch": cutmix_epoch,
            "worker_num": worker_num,
            "worker_start": worker_start,
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
            num_classes=num_classes,
            repeat_threshold=repeat_threshold,
            seed=seed,
            **shared,
        )
        self.unlabeled = ViewsReader(
            dataset=unlabeled,
            batch_transforms=unsup_batch_transforms,
            batch_size=unsup_batch_size,
            batches_per_epoch=max(1, len(self.labeled) // accumulate_steps * accumulate_steps),
            seed=int(np.random.SeedSequence((seed, 1)).generate_state(1)[0]),  # other numbers than labeled images get
            **shared,
        )
        # Attributes that trainer and hooks read; they describe the labeled images.
        self.sample_transforms = [*self.labeled.sample_transforms, *self.labeled.weak_aug]
        self.batch_transforms = self.labeled.batch_transforms
        self.files = self.labeled.files
        self._first_batch = 0

    @staticmethod
    def check_settings(mosaic_epoch: int | str, mixup_epoch: int | str, cutmix_epoch: int | str) -> None:
        """See TrainReader."""
        check_until("SemiTrainReader", (mosaic_epoch, mixup_epoch, cutmix_epoch))

    @property
    def closing(self) -> Closing:
        """See BaseReader; it is that of the labeled images."""
        return self.labeled.closing

    @property
    def growing(self) -> dict[str, int]:
        """See BaseReader."""
        return self.labeled.growing

    @property
    def skipped(self) -> dict[str, str]:
        """Path -> reason of every image, labeled or not, that could not be read."""
        return {**self.labeled.skipped, **self.unlabeled.skipped}

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        return len(self.labeled)

    def set_run_length(self, epochs: float) -> None:
        """See BaseReader."""
        self.labeled.set_run_length(epochs)
        self.unlabeled.set_run_length(epochs)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """See BaseReader."""
        self._first_batch = first_batch
        self.labeled.set_epoch(epoch, first_batch)
        self.unlabeled.set_epoch(epoch, first_batch)

    def __iter__(self) -> Generator[dict[str, Any], None, None]:
        with contextlib.closing(iter(self.labeled)) as labeled, contextlib.closing(iter(self.unlabeled)) as unlabeled:
            expected, count = len(self.unlabeled) - self._first_batch, 0
            for batch, other in zip(labeled, unlabeled):
                count += 1
                yield {**batch, "unlabeled": other}
        # A rank with fewer steps than the others would leave them waiting.
        if count < expected:
            raise DataError(
                f"{expected - count} of {expected} batches have no readable image: see the skipped images above"
            )


def check_view(name: str, transforms: Sequence[Callable]) -> None:
    """Raise ValueError for a transform of a view that may do more than change pixel values, or comes too late."""
    refuse_several(transforms, f"SemiTrainReader.{name}")
    is_normalized = False
    for transform in transforms:
        if is_normalized and has_property(transform, "keeps_uint8"):
            raise ValueError(
                f"SemiTrainReader.{name}: {type(transform).__name__} takes images before NormalizeImage: list it first"
            )
        is_normalized = is_normalized or isinstance(transform, NormalizeImage)
        if not (has_property(transform, "pixels_only") or isinstance(transform, Permute)):
            raise ValueError(
                f"SemiTrainReader.{name}: {type(transform).__name__} may move pixels, so that the two views of an "
                "image would not match: put it into sample_transforms"
            )


def check_same_normalization(weak: Sequence[Callable], strong: Sequence[Callable]) -> None:
    """Raise ValueError if teacher and student would see differently normalized images."""
    first, second = ([t.normalization for t in view if isinstance(t, NormalizeImage)] for view in (weak, strong))
    if first != second:
        raise ValueError("SemiTrainReader: weak_aug and strong_aug must both end with the same NormalizeImage")
