"""What all errors that a user can act on have in common, and those that several rooms raise."""

import re


class UserError(Exception):
    """A mistake that a user can mend: tools print the message, one line, without a traceback.

    The classes are also ValueErrors and the like. Before an `except` for one of these, or for Exception, around code
    of the project stands `except UserError: raise`, or a message that says what to do would become another.
    """

    user_error = True


class DataError(UserError, ValueError):
    """Data that cannot be used: the message names the file, what was expected, and what to do."""


def paddle_summary(text: str) -> str | None:
    """The line that says what is wrong, of what Paddle prints or raises; None where Paddle's heading is missing.

    Above that heading Paddle has the stack of its C++ side.
    """
    _, heading, summary = text.rpartition("Error Message Summary:")
    lines = (line.strip() for line in summary.splitlines() if re.search(r"\w", line))
    return next(lines, "") if heading else None
