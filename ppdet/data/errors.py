"""What goes wrong with data. Both errors are one line that a user can act on."""


class DataError(ValueError):
    """Data that cannot be used: the message names the file, what was expected, and what to do."""

    user_error = True  # tools print the message alone, without a traceback


class ImageError(DataError):
    """An image file that cannot be read. Readers skip it, count it and name it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"
