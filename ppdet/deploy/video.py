"""Reading frames from a video file or a camera, and writing frames to a video file."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ppdet.data.image_files.size import LIMIT_VARIABLE, most_pixels
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# Every OpenCV with FFmpeg writes MPEG-4; OpenCV's Python packages have no H.264, because of its license. Motion JPEG
# needs no FFmpeg, and takes frames that are too large for MPEG-4.
CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
DEFAULT_FPS = 25.0  # frames per second of a camera or file that does not tell its frame rate
# FFmpeg would print a line for each damaged frame; VideoSource counts them instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """A frame of a video.

    number: index of the frame, from 0; frames that cannot be decoded count too. seconds: time since the first frame.
    image: (H, W, 3) RGB uint8, rotated as the video's metadata says.
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
        fps: frames per second.
        announced: number of frames that the file says it has; 0 if it does not say.
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
        with _quiet():
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
        self.announced = 0 if self.live else max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.decoded = self.failed = 0
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
            done, pixels = self._capture.retrieve()
            if not done:
                self.failed += 1
                continue
            seconds = time.monotonic() - self._start if self.live else number / self.fps
            return Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        return None

    @property
    def missing(self) -> int:
        """Number of frames that could not be decoded, or that the file announces and does not have."""
        return max(self.failed, self.announced - self.decoded)

    def close(self) -> None:
        self._capture.release()


class VideoFile:
    """A video file to write frames to. It gets its name when it is closed, so that it is complete or absent.

    Args:
        stem: path of the file without its suffix, which is .mp4, or .avi if OpenCV can only write that.
        size: height and width of the frames. If one is odd, codecs drop the last row or column.
        fps: frames per second.

    Attributes:
        path: path of the file.
        frames: number of frames that were written.

    Raises:
        DataError: OpenCV cannot write a video of this size on this machine.
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
        """Append an image (H, W, 3) RGB uint8 `times` times, resized if its size differs from the video's."""
        if image.shape[:2] != self.size:
            image = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA)
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        for _ in range(times):
            self._writer.write(pixels)
        self.frames += times

    def close(self) -> None:
        """Finish the file. Its frames are counted, because OpenCV does not tell when it cannot write.

        Raises:
            OSError: frames are missing.
        """
        self._writer.release()
        written = _count_frames(self._temporary, self.size)
        if written < self.frames:
            raise OSError(f"{self.path}: {written} of {self.frames} frames could be written: is the disk full?")
        os.replace(self._temporary, self.path)


def _usable_codec(folder: Path, size: tuple[int, int], fps: float) -> tuple[str, str]:
    """The first codec, with its suffix, with which two frames can be written and read again."""
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
    raise DataError(f"{folder}: OpenCV cannot write a video of {size[1]} x {size[0]} pixels here (tried {codecs})")


def _writer(path: Path, codec: str, size: tuple[int, int], fps: float) -> cv2.VideoWriter:
    with _quiet():
        return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size[::-1])


def _count_frames(path: Path, size: tuple[int, int]) -> int:
    """Number of frames in a video; 0 unless it is a video of this size (without an odd row or column)."""
    with _quiet():
        capture = cv2.VideoCapture(str(path))
        read, pixels = capture.read()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if read else 0
        capture.release()
    return count if read and all(0 <= side - real <= 1 for side, real in zip(size, pixels.shape)) else 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block OpenCV logs nothing: a file that it cannot open becomes an error of ours."""
    logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has the function in cv2 itself
    level = logging.setLogLevel(0)  # 0 is silent
    try:
        yield
    finally:
        logging.setLogLevel(level)
