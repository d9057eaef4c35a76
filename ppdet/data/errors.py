"""What goes wrong with data. Both errors are one line that a user can act on."""

from ppdet.utils.errors import DataError

__all__ = ["DataError", "ImageError"]


class ImageError(DataError):
    """An image file that cannot be read. Readers skip it, count it and name it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
