"""Writing frames to a video file, so that each is shown at its time."""

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np

from ppdet.deploy.video.source import quiet
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# Every OpenCV with FFmpeg writes MPEG-4; OpenCV's Python packages have no H.264, because of its license. Motion JPEG
# needs no FFmpeg, and takes frames that are too large for MPEG-4.
CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
# A damaged file may tell of a pause of years, which would be written frame by frame. This is 24 minutes at 25 frames/s.
MOST_REPEATS = 36_000


class VideoFile:
    """A video file to write frames to. It gets its name when it is closed, so that it is complete or absent.

    It has one frame rate, while the images to write may come at any times: an image is repeated until the next one is
    due, and of several for one place the last is taken.

    Args:
        stem: path of the file without its suffix, which is .mp4, or .avi if OpenCV can only write that.
        size: height and width of the frames. If one is odd, codecs drop the last row or column.
        fps: frames per second.

    Attributes:
        path: path of the file.
        frames: number of frames that were written.
        unseen: number of images that are not in the file, because the next one was due at the same place.

    Raises:
        DataError: OpenCV cannot write a video of this size on this machine.
        OSError: the folder cannot be written to.
    """

    def __init__(self, stem: Path, size: tuple[int, int], fps: float) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.size = size
        self.fps = fps
        self.frames = self.unseen = 0
        self._shown: np.ndarray | None = None  # the image that is due at `frames`, until another one is
        self._left_out = 0  # frames of pauses that were shortened
        codec, suffix = usable_codec(stem.parent, size, fps)
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

    def show(self, image: np.ndarray, seconds: float) -> None:
        """Show an image, (H, W, 3) RGB uint8, from a time on; before the first one, the first one is shown.

        A pause that takes more than MOST_REPEATS frames is shortened, which the log tells once.
        """
        due = round(seconds * self.fps) - self._left_out - self.frames
        if due > MOST_REPEATS:
            if not self._left_out:
                logger.warning("%s: a pause at %.1f s is too long for the video, and is shortened", self.path, seconds)
            self._left_out += due - MOST_REPEATS
            due = MOST_REPEATS
        self.unseen += self._shown is not None and due <= 0
        self.write(image if self._shown is None else self._shown, times=max(0, due))
        self._shown = image

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
        if self._shown is not None:
            self.write(self._shown)
        self._writer.release()
        written = _count_frames(self._temporary, self.size)
        if written < self.frames:
            raise OSError(f"{self.path}: {written} of {self.frames} frames could be written: is the disk full?")
        os.replace(self._temporary, self.path)


def usable_codec(folder: Path, size: tuple[int, int], fps: float) -> tuple[str, str]:
    """Return the first codec, and its suffix, with which two frames (height, width) can be written and read again.

    Raises:
        DataError: OpenCV cannot write a video of this size on this machine.
        OSError: the folder cannot be written to.
    """
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
    with quiet():
        return cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size[::-1])


def _count_frames(path: Path, size: tuple[int, int]) -> int:
    """Number of frames in a video; 0 unless it is a video of this size (without an odd row or column)."""
    with quiet():
        capture = cv2.VideoCapture(str(path))
        read, pixels = capture.read()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if read else 0
        capture.release()
    return count if read and all(0 <= side - real <= 1 for side, real in zip(size, pixels.shape)) else 0
