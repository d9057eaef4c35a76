"""Reading frames, with their times, from a video file or a camera."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np

from ppdet.data.image_files.size import LIMIT_VARIABLE, most_pixels
from ppdet.deploy.frame_times import FrameTimes
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

DEFAULT_FPS = 25.0  # frames per second of a camera or file that does not tell its frame rate
# FFmpeg would print a line for each damaged frame; VideoSource counts them instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """A frame of a video.

    number: index of the frame, from 0; frames that cannot be decoded count too. seconds: the time at which a player
    shows it, as the file tells it; of a camera, time since it was opened. image: (H, W, 3) RGB uint8, rotated as the
    video's metadata says.
    """

    number: int
    seconds: float
    image: np.ndarray


class VideoSource:
    """The frames of a video file or a camera.

    Args:
        source: path of a video file, or the number of a camera (0 is the first one).

    Attributes:
        live: whether the source is a camera.
        name: the source's name, for messages.
        size: height and width of the frames.
        fps: frames per second, on average.
        announced: number of frames that the file counts; 0 if it does not.
        decoded: number of frames that were read so far.
        failed: number of frames that could not be decoded so far.

    Raises:
        DataError: the file or camera does not exist, or none of its frames can be decoded.
    """

    def __init__(self, source: str | os.PathLike | int) -> None:
        self.live = isinstance(source, int)
        self.name = f"camera {source}" if self.live else str(source)
        if not self.live and not os.path.isfile(source):
            raise DataError(f"{self.name}: no such video file")
        with quiet():
            self._capture = cv2.VideoCapture(source if self.live else str(source))
        if not self._capture.isOpened():
            reason = (
                "there is no such camera, another program uses it, or this user may not read it"
                if self.live
                else "not a video that OpenCV can read (damaged, truncated, or of an unknown format)"
            )
            raise DataError(f"{self.name}: {reason}")
        pixels = self._capture.get(cv2.CAP_PROP_FRAME_WIDTH) * self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if pixels > most_pixels():
            raise DataError(
                f"{self.name}: its frames have {pixels:.0f} pixels, more than {most_pixels()} (the environment "
                f"variable {LIMIT_VARIABLE} sets it)"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else DEFAULT_FPS
        count = 0 if self.live else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.announced = count if count and counts_frames(self.name) else 0
        self.decoded = self.failed = 0
        self._length = count / self.fps  # seconds
        self._times = FrameTimes(self.name, self.fps, from_start=self._capture.getBackendName() == "FFMPEG")
        self._start = time.monotonic()
        self._first = self._read()
        if self._first is None:
            raise DataError(f"{self.name}: none of its frames can be decoded")
        self.size: tuple[int, int] = self._first.image.shape[:2]

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames; it can be iterated once."""
        frame, self._first = self._first, None
        while frame is not None:
            self.decoded += 1
            yield frame
            frame = self._read()

    def _read(self) -> Frame | None:
        """Return the next frame that can be decoded; None at the end."""
        while self._capture.grab():
            number = self.decoded + self.failed
            # OpenCV 4 and 5 tell here the time of the frame that grab() has just decoded.
            told = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            done, pixels = self._capture.retrieve()
            if not done:
                self.failed += 1
                continue
            seconds = time.monotonic() - self._start if self.live else self._times.seconds(number, told)
            return Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        return None

    @property
    def missing(self) -> int:
        """Number of frames that could not be decoded, or that the file announces and does not have.

        A file that does not count its frames announces its length, from which the number at its end is estimated.
        """
        if self.announced:
            return max(self.failed, self.announced - self.decoded)
        lost = self._length - self._times.end
        return self.failed + (round(lost * self.fps) if lost > 1 / self.fps else 0)

    def close(self) -> None:
        self._capture.release()


def counts_frames(path: str | os.PathLike) -> bool:
    """Whether a video file has the number of its frames: MP4 and AVI have. For others, FFmpeg multiplies their length
    by a frame rate, which has no meaning if the frame rate varies.
    """
    with open(path, "rb") as stream:
        head = stream.read(12)
    return head[:4] in (b"RIFF", b"RIFX") or head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block OpenCV logs nothing: a file that it cannot open becomes an error of ours."""
    logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has the function in cv2 itself
    level = logging.setLogLevel(0)  # 0 is silent
    try:
        yield
    finally:
        logging.setLogLevel(level)
