"""Reading windows of large images as separate samples, to detect small objects in them."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ppdet.data.loading.collate import Result, SampleSource, Task, error_text
from ppdet.data.transforms.decode import Decode
from ppdet.utils.errors import ImageError

# (height, width) of an image -> (K, 4) x1, y1, x2, y2 of its windows in pixels
Cut = Callable[[int, int], np.ndarray]


def crops(image: np.ndarray, windows: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
    """Yield for each window (4,): the window, the number of windows after it, and a copy of its pixels."""
    for number, window in enumerate(windows, start=1):
        x1, y1, x2, y2 = window.tolist()
        yield window, len(windows) - number, image[y1:y2, x1:x2].copy()


class WindowSource:
    """Gives the windows of the images that a SampleSource would give whole. One image is in memory at a time."""

    def __init__(self, source: SampleSource, cut: Cut) -> None:
        self.source = source
        self.cut = cut
        self.decode = Decode()

    def batches(self, tasks: Iterable[Task], batch_size: int) -> Iterator[list[Result]]:
        """Yield the results of all windows of the tasks' images in order, `batch_size` samples at a time."""
        batch: list[Result] = []
        for task in tasks:
            for result in self._results(task):
                batch.append(result)
                if result.error or sum(one.sample is not None for one in batch) == batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _results(self, task: Task) -> Iterator[Result]:
        """One Result for each window of an image, or a single one without a sample."""
        try:
            for sample in self._samples(self.source.records[task.record]):
                sample["curr_iter"] = task.curr_iter
                yield Result(task, self.source.make(sample, task), {})
        except ImageError as error:
            yield Result(task, None, {error.path: error.reason})
        except Exception as error:
            yield Result(task, None, {}, error_text(error))

    def _samples(self, record: dict) -> Iterator[dict]:
        name = {key: record[key] for key in ("im_id", "im_file")}
        whole = {**name, **{key: record[key] for key in ("h", "w") if key in record}}
        image = self.decode(dict(whole))["image"]
        windows = self.cut(*image.shape[:2])
        for window, windows_left, pixels in crops(image, windows):
            # An image with one window is read from its file, as without windows: a JPEG may be decoded smaller.
            sample = {**name, "image": pixels} if len(windows) > 1 else whole
            yield {**sample, "window": window, "windows_left": np.array(windows_left)}
