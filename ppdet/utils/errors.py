"""The errors that a user can act on: a wrong configuration, unusable data, an unusable exported model.

Errors of one room only, such as CheckpointError, are defined in that room as subclasses of UserError.
"""

import difflib
import itertools
import re
from collections.abc import Iterable
from typing import Any

from ppdet.utils.masking import masked
from ppdet.utils.printable import printable, printable_lines

LONGEST = 900  # characters of an error about a configuration
MAX_NAME, MAX_NAMES = 200, 2000  # letters of a name, and number of names, among which a similar one is looked for
# What errors about an unknown component add: it may be one from outside.
IMPORT_ADVICE = "; a component of your own needs --import FILE (docs/EXTENDING.md)"


class UserError(Exception):
    """Base class of all mistakes that a user can correct. Commands print the message as one line, without a traceback.

    Most subclasses are ValueErrors, RuntimeErrors or OSErrors as well. Code that catches one of these, or Exception,
    around calls into this project needs `except UserError: raise` before it; otherwise it would replace a message
    that tells the user what to do.

    Messages quote names from outside: str() escapes the control characters in them, and masks the passwords of
    addresses.
    """

    def __str__(self) -> str:
        return printable_lines(masked(super().__str__()))


class ConfigError(UserError, ValueError):
    """A mistake in a configuration. The message names file:line, the dotted key, and what was expected."""

    def __str__(self) -> str:
        # KeyError would show the message's repr.
        return printable_lines(masked(" ".join(str(argument) for argument in self.args)))


class ConfigKeyError(ConfigError, KeyError):
    """A configuration was asked for a setting or parameter that does not exist or has no value."""


class ComponentError(UserError, TypeError):
    """A class cannot be registered as a component: its name is in use, or its constructor does not suit YAML."""


class DataError(UserError, ValueError):
    """Data that cannot be used. The message names the file, what was expected, and what to do."""


class ImageError(DataError):
    """An image file that cannot be read. Readers skip such images, count them and report them."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return printable(masked(f"{self.path}: {self.reason}"))


class WorkerError(DataError):
    """A data worker process died or could not hand over a batch."""

    def __init__(self, message: str, task: Any) -> None:
        """`task` is the batch that the worker was preparing, or None if that is unknown."""
        super().__init__(message)
        self.task = task


class DeployError(UserError, ValueError):
    """An exported model, or an inference engine, that cannot be used. The message says why and what to do."""


def config_error(origin: str, key: str, message: str) -> ConfigError:
    """Make a one-line ConfigError about the value at a dotted key.

    Args:
        origin: where the value was set: "file:line", "-o" or the name of a function.
        key: dotted key such as "ResNet.depth"; "" where the message is about the whole file.
        message: what was expected, and what to do.
    """
    place = f"{origin}: {key}" if key else origin
    line = " ".join(f"{place}: {message}".split())
    # A key or a value may have any length: the middle is left out.
    return ConfigError(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


def nearest(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean 'X'?" with the valid name that is most similar to `name`, or "" if none is similar."""
    similar = nearest_name(name, valid, cutoff)
    return f"; did you mean {similar!r}?" if similar is not None else ""


def nearest_name(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the valid name that is most similar to `name`; None if none is similar.

    Upper and lower case count as equal. `cutoff` is the smallest similarity accepted, between 0 and 1 (equal).
    """
    # The time for two texts grows with the product of their lengths.
    if len(str(name)) > MAX_NAME:
        return None
    short = itertools.islice((choice for choice in sorted(set(valid)) if len(choice) <= MAX_NAME), MAX_NAMES)
    by_lower = {choice.lower(): choice for choice in short}
    similar = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[similar[0]] if similar else None


def paddle_summary(text: str) -> str | None:
    """Return the line of Paddle's output or exception that says what is wrong.

    Paddle prints a C++ stack, then the heading "Error Message Summary:", then the reason. The result is None where
    that heading is missing.
    """
    _, heading, summary = text.rpartition("Error Message Summary:")
    lines = (line.strip() for line in summary.splitlines() if re.search(r"\w", line))
    return next(lines, "") if heading else None
