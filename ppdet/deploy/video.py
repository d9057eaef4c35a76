"""Video files and cameras: their frames, and a video file to write frames to."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# MPEG-4 is what every OpenCV with FFmpeg writes; H.264 is left out of its Python packages for its licence. Motion JPEG
# needs no FFmpeg, and takes frames that are too large for MPEG-4.
CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
USUAL_FPS = 25.0  # where a camera or a file does not say
# What FFmpeg has to say of damaged files would go to standard error, past our counts of it.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """A frame of a video.

    number: from 0, counting frames that cannot be decoded too. seconds: since the first one.
    image: (H, W, 3) RGB uint8, turned as the video's own data says.
    """

    number: int
    seconds: float
    image: np.ndarray


class VideoSource:
    """Frames of a video file, or of a camera by its number.

    Attributes:
        live: whether it is a camera. size: (h, w) of the frames. fps: frames a second.
        announced: frames that the file says it has, 0 where it does not say.
        decoded, failed: frames that have been read so far, and that could not be decoded.

    Raises:
        DataError: no such file or camera, or no frame of it can be decoded.
    """

    def __init__(self, source: str | os.PathLike | int) -> None:
        self.live = isinstance(source, int)
        self.name = f"camera {source}" if self.live else str(source)
        if not self.live and not os.path.isfile(source):
            raise DataError(f"{self.name}: no such video file")
        with _quiet():
            self._capture = cv2.VideoCapture(source if self.live else str(source))
        if not self._capture.isOpened():
            reason = (
                "there is none, another program has it, or this user may not read it"
                if self.live
                else "not a video that OpenCV can read (damaged, cut short, or of a kind that it does not know)"
            )
            raise DataError(f"{self.name}: {reason}")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else USUAL_FPS
        self.announced = 0 if self.live else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.decoded = self.failed = 0
        self._start = time.monotonic()
        self._first = self._read()
        if self._first is None:
            raise DataError(f"{self.name}: no frame of it can be decoded")
        self.size: tuple[int, int] = self._first.image.shape[:2]

    def __iter__(self) -> Iterator[Frame]:
        """The frames, once."""
        frame, self._first = self._first, None
        while frame is not None:
            self.decoded += 1
            yield frame
            frame = self._read()

    def _read(self) -> Frame | None:
        """The next frame that can be decoded; None at the end."""
        while self._capture.grab():
            number = self.decoded + self.failed
            done, pixels = self._capture.retrieve()
            if not done:
                self.failed += 1
                continue
            seconds = time.monotonic() - self._start if self.live else number / self.fps
            return Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        return None

    @property
    def missing(self) -> int:
        """Frames that could not be decoded, and those that the file announces and does not have."""
        return max(self.failed, self.announced - self.decoded)

    def close(self) -> None:
        self._capture.release()


class VideoFile:
    """A video file that frames are written to. It gets its name when it is closed: it is whole or absent.

    Args:
        stem: its path without the suffix, which is .mp4, or .avi where OpenCV can write only that.
        size: (h, w) of the frames. Codecs take even sizes: the last row or column of an odd one is left out.
        fps: frames a second.

    Attributes:
        path: of the file.

    Raises:
        DataError: OpenCV can write no video of this size here.
        OSError: the folder cannot be written to.
    """

    def __init__(self, stem: Path, size: tuple[int, int], fps: float) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.size = size
        self.frames = 0
        codec, suffix = _usable_codec(stem.parent, size, fps)
        self.path = stem.with_name(stem.name + suffix)
        self._temporary = stem.with_name(f".{stem.name}.{os.getpid()}{suffix}")
        self._writer = _writer(self._temporary, codec, size, fps)

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._writer.release()
            self._temporary.unlink(missing_ok=True)

    def write(self, image: np.ndarray, times: int = 1) -> None:
        """Append an image (H, W, 3) RGB uint8, `times` times; one of another size is resized."""
        if image.shape[:2] != self.size:
            image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA)
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        for _ in range(times):
            self._writer.write(pixels)
        self.frames += times

    def close(self) -> None:
        """Finish the file, and read in it whether all is there: OpenCV does not say when it cannot write.

        Raises:
            OSError: it is not.
        """
        self._writer.release()
        written = _count_frames(self._temporary, self.size)
        if written < self.frames:
            raise OSError(f"{self.path}: {written} of {self.frames} frames could be written: is the disk full?")
        os.replace(self._temporary, self.path)


def _usable_codec(folder: Path, size: tuple[int, int], fps: float) -> tuple[str, str]:
    """The first codec, and its suffix, with which two frames can be written and read again."""
    with tempfile.TemporaryDirectory(prefix=".video", dir=folder) as temporary:
        for codec, suffix in CODECS:
            path = Path(temporary) / f"probe{suffix}"
            writer = _writer(path, codec, size, fps)
            for _ in range(2):
                writer.write(np.zeros((*size, 3), np.uint8))
            writer.release()
            if _count_frames(path, size) == 2:
                return codec, suffix
    codecs = ", ".join(codec for codec, _ in CODECS)
    raise DataError(f"{folder}: OpenCV can write no video of {size[1]} x {size[0]} pixels here (tried {codecs})")


def _writer(path: Path, codec: str, size: tuple[int, int], fps: float) -> cv2.VideoWriter:
    with _quiet():
        return cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size[::-1])


def _count_frames(path: Path, size: tuple[int, int]) -> int:
    """Frames that a video has; 0 where it is not one of this size, but for an odd row or column."""
    with _quiet():
        capture = cv2.VideoCapture(str(path))
        read, pixels = capture.read()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if read else 0
        capture.release()
    return count if read and all(0 <= side - real <= 1 for side, real in zip(size, pixels.shape)) else 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines: what it cannot open becomes an error of ours."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
