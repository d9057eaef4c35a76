"""The work of a data worker: making samples from records, and collating samples to a batch of arrays."""

import functools
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ppdet.data.loading.several_images import SeveralImages, split_parts
from ppdet.data.loading.views import View, transforms_of_view
from ppdet.data.transforms.batches.pad_batch import Empty, PadBatch, stack_images
from ppdet.data.transforms.composing.compose import Compose, apply_transform
from ppdet.utils.errors import DataError, ImageError, UserError

PADDING = {"gt_bbox": 0, "gt_class": -1, "is_crowd": 0}  # fields with one row for each box, and what fills missing rows
REPORT = "_report"  # key of a batch under which a worker reports unreadable images and errors
# They separate the random streams of sample transforms, batch transforms, and the choice of further images.
SAMPLE, BATCH, FURTHER = 0, 1, 2
Path = tuple[int, ...]  # which further image of which transform, see `SampleSource`


class Task(NamedTuple):
    """One sample to make.

    Attributes:
        epoch: the epoch, or the pass over the data set, on which its random numbers depend.
        curr_iter: the training step it belongs to.
        record: position of its record in the data set.
        view: which view of the image, see `BaseReader.read_views`.
        closed: settings of readers (`Transform.used_until`) whose transforms are no longer used.
    """

    epoch: int
    curr_iter: int
    record: int
    view: int = 0
    closed: tuple[str, ...] = ()


class Result(NamedTuple):
    """The outcome of a task.

    Attributes:
        sample: None if no image could be read; a list if the transforms made several views of the image.
        skipped: path -> reason of each image that could not be read.
        error: what went wrong otherwise, "" if nothing did.
    """

    task: Task
    sample: dict | list[dict] | None
    skipped: dict[str, str]
    error: str = ""


class NothingReadable(DataError):
    """None of the images that may stand for a record can be read."""


class SampleSource:
    """Makes samples: source[task] is a Result. It never raises; the Result carries an error to the main process.

    Transforms of several images get further ones, each drawn from all records with equal probability. A further sample
    has random numbers of its own, which depend on the task and on its path alone: the pair (place, number) of the
    transform that asks for it and of the sample among those asked for. The transforms before that one may themselves
    ask for further images; then their pairs are appended.

    Args:
        records: the data set's records.
        transforms: sample transforms.
        seed: seed of all random numbers.
        replace: take the next readable image in place of one that cannot be read.
        max_skipped: largest number of images that are skipped for one task, and for each further image of it.
    """

    def __init__(
        self, records: Sequence[dict], transforms: Sequence[Callable], seed: int, replace: bool, max_skipped: int
    ) -> None:
        self.records = records
        self.whole = transforms
        self.transforms = [split_parts(transforms)]  # one list for each view
        self.has_views = False
        self.seed = seed
        self.tries = min(len(records), max_skipped + 1) if replace else 1

    def __getitem__(self, task: Task) -> Result:
        skipped: dict[str, str] = {}
        try:
            return Result(task, self._read(task, task.record, skipped), skipped)
        except NothingReadable:
            return Result(task, None, skipped)
        except Exception as error:
            return Result(task, None, skipped, error_text(error))

    def make(
        self,
        sample: dict,
        task: Task,
        skipped: dict[str, str] | None = None,
        path: Path = (),
        end: int | None = None,
    ) -> dict:
        """Apply the transforms to a sample, with the random numbers of `task`.

        Args:
            skipped: path -> reason of each image that could not be read; further ones are added.
            path: of a further sample, see above.
            end: number of the parts that are applied; None: all.
        """
        if self.has_views:
            sample["views_left"] = np.array(len(self.transforms) - 1 - task.view)
        rng = random_stream(self.seed, task, SAMPLE, path)
        skipped = {} if skipped is None else skipped
        for place, part in enumerate(self.transforms[task.view][:end]):
            if isinstance(part, Compose):
                sample = part(sample, rng)
            elif getattr(part, "used_until", "") not in task.closed:
                make = functools.partial(self._read_further, task, skipped, (*path, place))
                sample = apply_transform(part, SeveralImages(sample, part.further_images, make), rng)
        return sample

    def _read(self, task: Task, record: int, skipped: dict[str, str], path: Path = (), end: int | None = None) -> dict:
        """Make the sample of a record, or of the next readable one."""
        for step in range(self.tries):
            fields = self.records[(record + step) % len(self.records)]
            try:
                return self.make({**fields, "curr_iter": task.curr_iter}, task, skipped, path, end)
            except ImageError as error:
                skipped[error.path] = error.reason
        raise NothingReadable(f"{len(skipped)} images cannot be read")

    def _read_further(self, task: Task, skipped: dict[str, str], asking: Path, number: int) -> dict:
        """Make a further sample; `asking` is the path up to the place of the transform that asks for it."""
        path = (*asking, number)
        record = int(random_stream(self.seed, task, FURTHER, path).integers(len(self.records)))
        return self._read(task, record, skipped, path, asking[-1])

    def use_views(self, views: Sequence[View]) -> None:
        """Make views of images from now on; samples then also hold `views_left`, see `BaseReader.read_views`."""
        self.transforms = [split_parts(transforms_of_view(self.whole, view)) for view in views]
        self.has_views = True


class Collator:
    """Collates the results of a batch to a dict of NumPy arrays; BaseReader lists its keys.

    If images were skipped, or something failed, the bytes of a JSON object under `REPORT` say so, and the other keys
    may be missing.

    Args:
        transforms: batch transforms.
        seed: seed of the samples' random numbers.
        with_boxes: keep the boxes.
        raw_images: `image` becomes (N, H, W, 3) uint8, which the device normalizes, instead of (N, 3, H, W) float32.
    """

    def __init__(self, transforms: Sequence[Callable], seed: int, with_boxes: bool, raw_images: bool) -> None:
        self.transform = Compose(transforms)
        self.seed = seed
        self.with_boxes = with_boxes
        self.raw_images = raw_images

    def __call__(self, results: list[Result], empty: Empty = np.empty) -> dict[str, np.ndarray]:
        """Collate; `empty` allocates the array of images."""
        for transform in self.transform.transforms:
            if isinstance(transform, PadBatch):
                transform.empty = empty
        skipped = {path: reason for result in results for path, reason in result.skipped.items()}
        error = next((result.error for result in results if result.error), "")
        samples = interleave_views([result.sample for result in results if result.sample is not None])
        batch: dict[str, np.ndarray] = {}
        if samples and not error:
            try:
                samples = self.transform(samples, random_stream(self.seed, results[0].task, BATCH))
                batch = self._arrays(samples)
            except Exception as failure:
                error = error_text(failure)
        if skipped or error:
            batch[REPORT] = pack_report(skipped, error)
        return batch

    def _arrays(self, samples: list[dict]) -> dict[str, np.ndarray]:
        batch: dict[str, np.ndarray] = {}
        for key, value in samples[0].items():
            if not isinstance(value, np.ndarray) or (key in PADDING and not self.with_boxes):
                continue
            values = [sample[key] for sample in samples]
            if key in PADDING:
                batch[key] = pad_rows(values, PADDING[key])
            elif key == "image":
                batch[key] = self._images(values)
            elif key == "im_id":
                batch[key] = np.concatenate(values)
            else:
                batch[key] = np.stack(values)
        return batch

    def _images(self, images: list[np.ndarray]) -> np.ndarray:
        shapes = sorted({image.shape for image in images})
        if len(shapes) > 1:
            raise DataError(
                f"the images of a batch differ in size ({shapes[0]}, {shapes[-1]}): add PadBatch to batch_transforms"
            )
        if not self.raw_images:
            return np.ascontiguousarray(stack_images(images), dtype=np.float32)
        if any(image.dtype != np.uint8 for image in images):
            raise TypeError("a transform with keeps_uint8 or moves_pixels returned an image that is not uint8")
        return np.ascontiguousarray(stack_images(images).transpose(0, 2, 3, 1))


@dataclass
class BatchMaker:
    """Makes the batch of a list of tasks. It needs no Paddle, and can be sent to another process as a pickle."""

    source: SampleSource
    collate: Collator

    def __call__(self, tasks: Sequence[Task], empty: Empty = np.empty) -> dict[str, np.ndarray]:
        return self.collate([self.source[task] for task in tasks], empty)


def interleave_views(samples: list) -> list[dict]:
    """Order the views of images as a batch has them: the first view of every image, then the second of every image.

    Samples that are single dicts stay as they are.
    """
    if not samples or isinstance(samples[0], dict):
        return samples
    return [view for views in zip(*samples) for view in views]


def pad_rows(values: list[np.ndarray], fill: int) -> np.ndarray:
    """Stack arrays (M_n, K) to (N, M, K), or to (N, M) if K is 1, where M is the largest M_n, but at least 1.

    Missing rows are filled with `fill`.
    """
    most = max(1, max(len(value) for value in values))
    padded = np.full((len(values), most, values[0].shape[1]), fill, dtype=values[0].dtype)
    for row, value in zip(padded, values):
        row[: len(value)] = value
    return padded[..., 0] if padded.shape[-1] == 1 else padded


def random_stream(seed: int, task: Task, kind: int, path: Path = ()) -> np.random.Generator:
    """The random numbers of a task. They depend on image and epoch, and not on workers, ranks or batch size.

    Args:
        kind: SAMPLE, BATCH or FURTHER.
        path: of a further sample, see SampleSource.
    """
    return np.random.default_rng(np.random.SeedSequence((seed, task.epoch, task.record, kind), spawn_key=path))


def error_text(error: Exception) -> str:
    """One line for an error that a user can act on, and the whole traceback for any other."""
    # OpenCV raises its own error with "Insufficient memory".
    if isinstance(error.__cause__ or error, MemoryError) or "Insufficient memory" in str(error):
        return f"not enough memory for a batch ({' '.join(str(error).split())}): lower worker_num or batch_size"
    return str(error) if isinstance(error, UserError) else traceback.format_exc()


def pack_report(skipped: dict[str, str], error: str) -> np.ndarray:
    """A report as an array of bytes, which travels like the other arrays of a batch."""
    return np.frombuffer(json.dumps({"skipped": skipped, "error": error}).encode(), dtype=np.uint8).copy()


def unpack_report(packed: np.ndarray) -> tuple[dict[str, str], str]:
    """What `pack_report` packed: path -> reason of each unreadable image, and the text of an error, or "" for none."""
    report = json.loads(packed.tobytes())
    return report["skipped"], report["error"]
