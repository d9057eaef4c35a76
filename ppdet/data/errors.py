"""What goes wrong with data. All errors are one line that a user can act on."""

from typing import Any

from ppdet.utils.errors import DataError

__all__ = ["DataError", "ImageError", "WorkerError"]


class ImageError(DataError):
    """An image file that cannot be read. Readers skip it, count it and name it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class WorkerError(DataError):
    """A data worker that died, or could not hand over a batch. `task`: the one it had, None if that is not known."""

    def __init__(self, message: str, task: Any) -> None:
        super().__init__(message)
        self.task = task
