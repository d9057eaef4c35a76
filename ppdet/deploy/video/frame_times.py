"""The times of a video's frames: those of the file, or frame / frame rate where the file tells none."""

import math

from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
LONGEST = 1e9  # seconds; OpenCV says -3.7e17 where a file tells no time


class FrameTimes:
    """Turns what OpenCV tells of each frame's time into times that never go back.

    Args:
        name: the video's name, for messages.
        fps: frames per second, on average.
        from_start: whether OpenCV tells the time since the start of the video, as with FFmpeg. Its reader of Motion
            JPEG tells the time of the next frame: there, and elsewhere, the first frame is the start.

    Attributes:
        end: the time at which the last frame ends, in seconds, as far as it is known: the frame is taken to be shown
            as long as the longest one before.
    """

    def __init__(self, name: str, fps: float, from_start: bool) -> None:
        self.end = 0.0
        self._name, self._fps, self._from_start = name, fps, from_start
        self._last: tuple[int, float] | None = None  # number and time of the last frame
        self._shift = 0.0  # what is added to the times that OpenCV tells
        self._longest = 1 / fps
        self._has_times = self._is_warned = False

    def seconds(self, number: int, told: float) -> float:
        """Return the time of a frame in seconds.

        Args:
            number: index of the frame; it increases from call to call.
            told: what OpenCV tells, in seconds.
        """
        is_time = math.isfinite(told) and abs(told) < LONGEST
        if self._last is None:
            seconds = told if is_time and self._from_start and told >= 0 else number / self._fps
            self._shift = seconds - told if is_time else 0.0
        else:
            before, last = self._last
            seconds = told + self._shift
            if is_time and seconds > last:
                self._has_times = True
            elif not is_time or seconds < last or not self._has_times:
                self._warn(number)
                seconds = last + (number - before) / self._fps
                if is_time and self._has_times:  # the times begin anew, as in joined recordings
                    self._shift = seconds - told
            self._longest = max(self._longest, seconds - last)
        self._last = number, seconds
        self.end = seconds + self._longest
        return seconds

    def _warn(self, number: int) -> None:
        if not self._is_warned:
            line = (
                "%s: the file tells no usable time of frame %d: frame / %g frames per second is taken where it does not"
            )
            logger.warning(line, self._name, number, self._fps)
            self._is_warned = True
