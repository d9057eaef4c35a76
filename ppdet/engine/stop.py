"""Ending a run on request: by a scheduler that needs the machine, or by Ctrl-C."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Optional

SIGNALS = (signal.SIGTERM, signal.SIGINT)
IMPATIENT_SECONDS = 2.0  # Paddle's launchers send a signal up to three times within about a second


class Stopped(SystemExit):
    """The run ended on request. The exit code is 128 + the signal's number, as shells and schedulers expect it.

    `together` tells that all ranks have agreed on it, and the run is saved.
    """

    def __init__(self, number: int, *, together: bool = False) -> None:
        super().__init__(128 + number)
        self.together = together


class StopRequests:
    """Takes SIGTERM and SIGINT while a run trains.

    The first one is noted in `received`, so that the trainer can finish its step and save. The same signal once more
    ends the run at once; so does the first, when there is nothing to save (`can_wait` is false).
    """

    def __init__(self) -> None:
        self.received: Optional[int] = None
        self.can_wait = False
        self._at = 0.0
        self._before: dict = {}

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _take(self, number: int, frame: Optional[FrameType]) -> None:
        now = time.monotonic()
        if self.received is None and self.can_wait:
            self.received, self._at = number, now
            name = signal.Signals(number).name
            # Not through the logger: it may be in the middle of a line.
            os.write(2, f"\n{name}: finishing the step, then saving; once more ends at once\n".encode())
        elif self.received in (None, number) and now - self._at > IMPATIENT_SECONDS:
            os.write(2, f"\n{signal.Signals(number).name}: ending at once\n".encode())
            raise Stopped(number)
