"""Reading frames, with their times, from a video file, a stream or a camera."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ppdet.data.image_files.size import LIMIT_VARIABLE, most_pixels
from ppdet.deploy.video.address import file_stem, is_address, require_protocol, shown
from ppdet.deploy.video.frame_times import FrameTimes
from ppdet.deploy.video.mp4_length import Shown, shown_times
from ppdet.deploy.video.web_server import NO_RANGES, Answer, ask
from ppdet.utils.errors import DataError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

DEFAULT_FPS = 25.0  # frames per second of a camera, stream or file that does not tell its frame rate
OPEN_SECONDS = READ_SECONDS = 10  # how long a stream may take to open, and to send the next frame
WAITS = (1, 2, 4, 8, 15, 30, 30, 30, 30, 30)  # seconds before each attempt to open a stream or camera again
MOST_AHEAD, BYTES_AHEAD = 50, 1 << 27  # frames that are read ahead to see how fast they come
MOST_FPS = 120.0  # of a video whose frames come at varying times
# FFmpeg would print a line for each damaged frame; VideoSource counts them instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Frame(NamedTuple):
    """A frame of a video.

    number: index of the frame, from 0; frames that cannot be decoded count too. seconds: the time at which a player
    shows it, as the file tells it; of a camera or live stream, time since it was opened. image: (H, W, 3) RGB uint8,
    rotated as the video's metadata says.
    """

    number: int
    seconds: float
    image: np.ndarray


class VideoSource:
    """The frames of a video file, a stream or a camera.

    A camera or live stream that ends is opened again, after longer and longer waits, and so is a file on a server that
    ends before the length in time that it announces. It has come to its end if it ends there a second time.

    Args:
        source: path of a video file, address of a stream, or the number of a camera (0 is the first one).

    Attributes:
        live: whether the source is a camera, or a stream without a length, neither in time nor, over HTTP, in bytes.
        name: the source's name, for messages, without passwords.
        stem: name, without a suffix, of files with results.
        size: height and width of the frames.
        fps: frames per second, on average.
        rate: frames per second at which nearly every frame has its own place: `fps`, unless the frame rate varies.
        announced: number of frames that the file counts (an AVI counts places without a frame too); 0 if it does not.
        decoded: number of frames that were read so far.
        failed: number of frames that could not be decoded so far.
        reconnected: how often the source was opened again and gave frames.
        is_lost: whether it gave none any more, after all attempts.
        is_stopped: asked during waits, and before the source is opened again: whether its frames are wanted no longer.

    Raises:
        DataError: there is no such file, stream or camera, or none of its frames can be decoded.
    """

    def __init__(self, source: str | os.PathLike | int) -> None:
        self._place = source if isinstance(source, int) else os.fspath(source)
        self._is_remote = isinstance(source, int) or is_address(str(source))
        self._is_http = str(source).lower().startswith(("http://", "https://"))
        if isinstance(source, int):
            self.name, self.stem = f"camera {source}", f"camera_{source}"
        elif self._is_remote:
            require_protocol(str(source))
            self.name, self.stem = shown(str(source)), file_stem(str(source))
        else:
            self.name, self.stem = str(source), Path(source).stem
            if not os.path.isfile(source):
                raise DataError(f"{self.name}: no such video file")
        self.decoded = self.failed = self.reconnected = 0
        self.is_lost = False
        self.is_stopped: Callable[[], bool] = lambda: False
        capture = self._capture = self._open()
        if reason := self._why_unusable(capture):
            raise DataError(f"{self.name}: {reason}")
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else DEFAULT_FPS
        count = 0 if isinstance(source, int) else max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.live = self._is_remote and not count and not self._server.has_end
        self._length = count / self.fps  # seconds
        container = "" if self._is_remote else container_of(self.name)
        self._counts_all = container == "MP4"  # an AVI counts the places for frames, some of which may be empty
        self.announced = count if container else 0
        edited = shown_times(self.name) if self._counts_all else Shown(0.0, 0.0)
        if 0 < edited.length < self._length - 1 / self.fps:  # an edit list leaves frames out
            self._length, self._counts_all, self.announced = edited.length, False, 0
        self._begin = edited.start
        if self._server.has_end and not count:
            logger.warning("%s: it does not tell how long it is: if the connection breaks, it ends there", self.name)
        self._times = FrameTimes(self.name, self.fps, from_start=capture.getBackendName() == "FFMPEG")
        self._start = time.monotonic()
        width, height = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
        if width > 0 and height > 0 and width != height:
            line = "%s: its pixels are shown %g:%g wide; here they are square, in boxes and in the written video"
            logger.warning(line, self.name, width, height)
        first = self._read()
        if first is None:
            raise DataError(f"{self.name}: {self._why_no_frame()}")
        self.size: tuple[int, int] = first.image.shape[:2]
        self._waiting = deque([first])  # frames that were read before they were asked for
        self.rate = self.fps if self.live else self._usual_rate()

    def _open(self) -> cv2.VideoCapture:
        with quiet():
            if isinstance(self._place, int):
                return cv2.VideoCapture(self._place)
            if self._is_remote:
                limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * OPEN_SECONDS]
                limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * READ_SECONDS]
                capture = cv2.VideoCapture(self._place, cv2.CAP_FFMPEG, limits)
            else:
                capture = cv2.VideoCapture(self._place)
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # 0 is the default of OpenCV 4.11
            return capture

    def _why_unusable(self, capture: cv2.VideoCapture) -> str:
        """Return why frames cannot be read from a source that was opened, or should not; empty if they can."""
        if capture.isOpened():
            pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
            limit = f"more than {most_pixels()} (the environment variable {LIMIT_VARIABLE} sets it)"
            return f"its frames have {pixels:.0f} pixels, {limit}" if pixels > most_pixels() else ""
        if isinstance(self._place, int):
            return "there is no such camera, another program uses it, or this user may not read it"
        if self._is_remote and not self._is_http:
            return f"no video came within {OPEN_SECONDS} s: is it sent there, and are user and password right?"
        return self._server.trouble or "not a video that OpenCV can read (damaged, truncated, or of an unknown format)"

    @cached_property
    def _server(self) -> Answer:
        """What the server says of an address with http or https; it is asked once, and only where it matters."""
        return ask(str(self._place), OPEN_SECONDS) if self._is_http else Answer(False, False, "")

    def _why_no_frame(self) -> str:
        """Return why a source that was opened gives no frame."""
        if self._server.has_end and not self._server.has_ranges:
            return f"none of its frames can be decoded: {NO_RANGES}"
        number = int(self._capture.get(cv2.CAP_PROP_FOURCC))
        codec = number.to_bytes(4, "little").decode("latin-1") if 0 < number < 1 << 32 else ""
        codec = f" {codec.strip()}" if codec.isprintable() else ""
        return (
            f"none of its frames can be decoded: it is damaged, or OpenCV cannot decode its codec{codec} here; "
            "ffmpeg -i VIDEO -c:v libx264 NEW.mp4 makes a video that it can"
        )

    def __iter__(self) -> Generator[Frame, None, None]:
        """Yield all frames; it can be iterated once."""
        while True:
            frame = self._waiting.popleft() if self._waiting else self._read()
            if frame is None and (self.live or (self._is_remote and self._lost_frames())):
                frame = self._read_again()
            if frame is None:
                return
            yield frame

    def _usual_rate(self) -> float:
        """Read some frames ahead, and return `rate`.

        The average rate is taken unless frames usually come faster: where a video has pauses, most would find no place.
        """
        most = min(MOST_AHEAD, 1 + BYTES_AHEAD // self._waiting[0].image.nbytes)
        while len(self._waiting) < most and (frame := self._read()) is not None:
            self._waiting.append(frame)
        distances = np.diff([frame.seconds for frame in self._waiting])
        distances = distances[distances > 0]
        if not len(distances):
            return self.fps
        usual = 1 / float(np.quantile(distances, 0.1, method="higher"))
        is_right = 0.9 * usual <= self.fps <= max(MOST_FPS, 1.1 * usual)
        return self.fps if is_right else round(min(usual, MOST_FPS), 2)

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
            seconds = time.monotonic() - self._start if self.live else self._times.seconds(number, told) + self._begin
            self.decoded += 1
            return Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        return None

    def _read_again(self) -> Frame | None:
        """Open the source again until it gives a frame, and return that.

        None after all attempts, if stopped, or if a file on a server ends where it did before.
        """
        for attempt, seconds in enumerate(WAITS, 1):
            if self.is_stopped():
                return None
            line = "%s: no frame came after %d frames; opening it again in %g s (attempt %d of %d)"
            logger.warning(line, self.name, self.decoded, seconds, attempt, len(WAITS))
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0 and not self.is_stopped():
                time.sleep(min(left, 0.2))
            self._capture.release()
            if self.is_stopped():
                return None
            self._capture = self._open()
            if self._why_unusable(self._capture) or not (self.live or self._skip()):
                continue
            if (frame := self._read()) is not None:
                self.reconnected += 1
                logger.info("%s: frames come again (interruption %d)", self.name, self.reconnected)
                return frame
            if not self.live:
                logger.info("%s: it ends there again after %d frames, which is its end", self.name, self.decoded)
                return None
        self.is_lost = True
        return None

    def _skip(self) -> bool:
        """Skip the frames that were read before the source was opened again; return whether it has as many."""
        return all(not self.is_stopped() and self._capture.grab() for _ in range(self.decoded + self.failed))

    @property
    def missing(self) -> int:
        """Number of frames that could not be decoded, or that an MP4 counts and does not have."""
        return max(self.failed, self.announced - self.decoded if self._counts_all else 0)

    @property
    def missing_seconds(self) -> float:
        """Seconds from the last frame to the end that a file announces which does not count its frames, if over 1."""
        lost = self._length - self._times.end
        return 0.0 if self.live or self._counts_all or lost <= 1 else lost

    def _lost_frames(self) -> int:
        """Number of frames, as far as it can be known, from the last frame to the end that was announced."""
        lost = self._length - self._times.end
        return round(lost * self.fps) if lost > 1 / self.fps else 0

    def close(self) -> None:
        self._capture.release()


def container_of(path: str | os.PathLike) -> str:
    """Return "MP4" or "AVI" for the containers that count frames; empty for others, of which FFmpeg multiplies the
    length by a frame rate, which has no meaning if the frame rate varies.
    """
    with open(path, "rb") as stream:
        head = stream.read(12)
    if head[:4] in (b"RIFF", b"RIFX"):
        return "AVI"
    return "MP4" if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip") else ""


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block OpenCV logs nothing: a file that it cannot open becomes an error of ours."""
    logging = getattr(cv2.utils, "logging", cv2)  # OpenCV 4 has the function in cv2 itself
    level = logging.setLogLevel(0)  # 0 is silent
    try:
        yield
    finally:
        logging.setLogLevel(level)
