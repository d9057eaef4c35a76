"""What happens in a worker: records to samples, samples to a batch of arrays."""

import json
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppdet.data.transforms.batch import PadBatch, stack_images
from ppdet.data.transforms.compose import Compose
from ppdet.utils.errors import DataError, ImageError, UserError

PADDING = {"gt_bbox": 0, "gt_class": -1, "is_crowd": 0}  # fields with a row for every box
REPORT = "_report"  # key of a batch that carries a worker's report to the main process
SAMPLE, BATCH = 0, 1  # keep the random streams of sample and batch transforms apart


class Task(NamedTuple):
    """One sample to make: of the image at `index`, in training step `curr_iter` of epoch `epoch`."""

    epoch: int
    curr_iter: int
    index: int


class Result(NamedTuple):
    """What became of a task. `sample` is None when no image could be read, a list when the transforms made several
    views of it; `skipped`: path -> reason."""

    task: Task
    sample: dict | list[dict] | None
    skipped: dict[str, str]
    error: str = ""


class SampleSource:
    """A data set of samples: source[task] -> Result. Never raises: a Result carries the error to the main process."""

    def __init__(
        self, records: list[dict], transforms: Sequence[Callable], seed: int, replace: bool, max_skipped: int
    ) -> None:
        self.records = records
        self.transform = Compose(transforms)
        self.seed = seed
        self.replace = replace
        self.max_skipped = max_skipped

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, task: Task) -> Result:
        """The sample; when its image cannot be read and `replace` is set, that of the next readable one."""
        skipped: dict[str, str] = {}
        tries = min(len(self.records), self.max_skipped + 1) if self.replace else 1
        try:
            for step in range(tries):
                record = self.records[(task.index + step) % len(self.records)]
                try:
                    return Result(task, self._make(record, task), skipped)
                except ImageError as error:
                    skipped[error.path] = error.reason
        except Exception as error:
            return Result(task, None, skipped, describe(error))
        return Result(task, None, skipped)

    def _make(self, record: dict, task: Task) -> dict:
        rng = random_stream(self.seed, task, SAMPLE)
        return self.transform({**record, "curr_iter": task.curr_iter}, rng)


class Collator:
    """Results of one batch -> dict of numpy arrays; see BaseReader for its keys.

    `REPORT` is among them, as the bytes of a JSON object, when images were skipped or something failed.
    Then the other keys may be missing.

    Args:
        raw_images: `image` becomes (N, H, W, 3) uint8, for the device to normalise, instead of (N, 3, H, W) float32.
    """

    def __init__(self, transforms: Sequence[Callable], seed: int, with_boxes: bool, raw_images: bool) -> None:
        self.transform = Compose(transforms)
        self.seed = seed
        self.with_boxes = with_boxes
        self.raw_images = raw_images

    def __call__(self, results: list[Result], empty: Callable = np.empty) -> dict[str, Any]:
        """`empty` makes the array of images where it can."""
        for transform in self.transform.transforms:
            if isinstance(transform, PadBatch):
                transform.empty = empty
        skipped = {path: reason for result in results for path, reason in result.skipped.items()}
        error = next((result.error for result in results if result.error), "")
        samples = views_in_order([result.sample for result in results if result.sample is not None])
        batch: dict[str, Any] = {}
        if samples and not error:
            try:
                samples = self.transform(samples, random_stream(self.seed, results[0].task, BATCH))
                batch = self._arrays(samples)
            except Exception as failure:
                error = describe(failure)
        if skipped or error:
            report = json.dumps({"skipped": skipped, "error": error}).encode()
            batch[REPORT] = np.frombuffer(report, dtype=np.uint8).copy()
        return batch

    def _arrays(self, samples: list[dict]) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for key, value in samples[0].items():
            values = [sample[key] for sample in samples]
            if not isinstance(value, np.ndarray) or (key in PADDING and not self.with_boxes):
                continue
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
            raise TypeError("a transform that says keeps_uint8 or moves_pixels made an image that is not uint8")
        return np.ascontiguousarray(stack_images(images).transpose(0, 2, 3, 1))


def views_in_order(samples: list) -> list[dict]:
    """Samples; where each is a list of views of one image, the first view of all, then the second of all."""
    if not samples or isinstance(samples[0], dict):
        return samples
    return [view for views in zip(*samples) for view in views]


def pad_rows(values: list[np.ndarray], fill: int) -> np.ndarray:
    """Arrays (M_n, K) -> (N, max M, K), or (N, max M) when K is 1. The maximum counts as at least 1."""
    most = max(1, max(len(value) for value in values))
    padded = np.full((len(values), most, values[0].shape[1]), fill, dtype=values[0].dtype)
    for row, value in zip(padded, values):
        row[: len(value)] = value
    return padded[..., 0] if padded.shape[-1] == 1 else padded


def random_stream(seed: int, task: Task, kind: int) -> np.random.Generator:
    """Random numbers that depend on the image and the epoch, and on no worker, rank or batch size."""
    return np.random.default_rng(np.random.SeedSequence((seed, task.epoch, task.index, kind)))


def describe(error: Exception) -> str:
    """A line for what a user can mend, the whole traceback for what a programmer must."""
    # The second is OpenCV's.
    if isinstance(error.__cause__ or error, MemoryError) or "Insufficient memory" in str(error):
        return f"not enough memory for a batch ({' '.join(str(error).split())}): lower worker_num or batch_size"
    return str(error) if isinstance(error, UserError) else traceback.format_exc()


def separate_boxes(batch: dict[str, Any], counts: deque[list[int]]) -> dict[str, Any]:
    """Padded (N, M, …) fields of boxes -> lists of N tensors without padding, of as many boxes as `counts` has next.

    Done after the workers, since batches of arrays have one of each kind. What is counted there is not read here, where
    it would be waited for.
    """
    if "gt_class" not in batch:
        return batch
    of_images = counts.popleft()
    lists = {key: [rows[:count] for rows, count in zip(batch[key], of_images)] for key in PADDING if key in batch}
    return {**batch, **lists}
