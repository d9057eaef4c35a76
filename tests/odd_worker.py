"""What a worker process of a test does. It imports little, so that it starts quickly."""

import ctypes
import os
import signal
import sys
import threading
from typing import Any

import numpy as np

from ppdet.deploy.serving.slots import Slots
from ppdet.utils.errors import DeployError


class OddWorker:
    """Does what tests ask for."""

    def __init__(self, slots: Slots) -> None:
        self.hello = os.getpid()
        self.slots = slots

    def double(self, value: Any) -> Any:
        return 2 * value

    def fail(self) -> None:
        raise ZeroDivisionError("odd")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def never_end(self) -> None:
        threading.Event().wait()

    def keep_the_lock(self) -> None:
        """As a library does that computes for long; where no other way out is known, it only waits."""
        if sys.platform != "linux":
            self.never_end()
        ctypes.PyDLL(None).pause()

    def environment(self, name: str) -> str | None:
        return os.environ.get(name)

    def fill(self, number: int, value: float, count: int) -> dict[str, Any]:
        return self.slots[number].pack({"image": np.full(count, value, np.float32)})


class Unwilling:
    """Cannot start: for a reason that it tells, or dying."""

    def __init__(self, reason: str | None) -> None:
        if reason is not None:
            raise DeployError(reason)
        os.kill(os.getpid(), signal.SIGKILL)
