"""How far a batch job is: a progress bar on a terminal, lines of the log elsewhere, both from the first moment."""

import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from ppdet.utils.logger import get_logger, is_watched

logger = get_logger(__name__)
LOG_SECONDS = 30.0  # between two lines of the log that tell how far a job is, when no bar is shown
# With fewer images in a shorter time, images per second would say more about the start than about the job.
LEAST_IMAGES, LEAST_SECONDS = 100, 10.0
STEP_FORMAT = "{desc} [{elapsed}]"
COUNT_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images [{elapsed}<{remaining}]"
SPEED_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images [{elapsed}<{remaining}, {rate_fmt}]"


def count_of(number: int, one: str, several: str = "") -> str:
    """A number and what it counts: "1 image", "2 images"."""
    return f"{number} {one if number == 1 else several or one + 's'}"


class Speed:
    """Images per second from when each worker has returned its first task: starting it does not count."""

    def __init__(self, workers: int) -> None:
        self._first_tasks = workers
        self._start = self._end = 0.0
        self.images = 0

    def add(self, images: int, now: float) -> None:
        """Count the images of a task that came back at `now`, in seconds."""
        if self._first_tasks:
            self._first_tasks -= 1
            self._start = now
        else:
            self.images += images
            self._end = now

    @property
    def per_second(self) -> float | None:
        """None while there are fewer than LEAST_IMAGES, in less than LEAST_SECONDS."""
        seconds = self._end - self._start
        if not self.images or seconds <= 0 or (self.images < LEAST_IMAGES and seconds < LEAST_SECONDS):
            return None
        return self.images / seconds


class _Bar(tqdm):
    """A bar whose speed and remaining time come from `Speed`; 0 is unknown."""

    speed = 0.0

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "rate": self.speed}


class Progress:
    """Within the block, tells what a job does and how many of its images are done.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = self._last_line = clock()
        self._step = ""
        self._speed: Speed | None = None  # None before images are counted
        self._done = self._total = 0

    def __enter__(self) -> "Progress":
        self._bar = _Bar(unit="image", bar_format=STEP_FORMAT, leave=False, disable=not is_watched())
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._start

    @property
    def speed(self) -> float | None:
        """Images per second; None if there were too few (see `Speed`)."""
        return self._speed.per_second if self._speed else None

    def step(self, what: str, detail: object = "") -> None:
        """Tell what the job does until the next call, in a few words; `detail` follows them in the log only."""
        self._step = what
        logger.info("%s%s", what, detail)
        self._bar.set_description_str(what)

    def count(self, done: int, total: int, workers: int) -> None:
        """From now on, images are counted: `done` of `total` were done before, and `workers` begin."""
        self._done, self._total, self._speed = done, total, Speed(workers)
        self._bar.total, self._bar.n, self._bar.bar_format = total, done, COUNT_FORMAT
        self._bar.refresh()

    def add(self, images: int) -> None:
        """Count the images of a task; 0 if nothing came back since the last call, about a second ago."""
        now = self._clock()
        self._done += images
        if images and self._speed:
            self._speed.add(images, now)
        speed = self.speed
        if speed:
            self._bar.speed, self._bar.bar_format = speed, SPEED_FORMAT
        self._bar.n = self._done
        self._bar.refresh()
        if is_watched() or now - self._last_line < LOG_SECONDS:
            return
        self._last_line = now
        if not self._speed:
            logger.info("%s: %.0f s since the start", self._step, now - self._start)
        elif speed:
            left = (self._total - self._done) / speed / 60
            logger.info("%d of %d images, %.2f images/s, %.0f min left", self._done, self._total, speed, left)
        else:
            logger.info("%d of %d images", self._done, self._total)
