"""What is raised for a mistake in a configuration, and how it proposes the right name."""

import difflib
from collections.abc import Iterable

from ppdet.utils.errors import UserError


class ConfigError(UserError, ValueError):
    """A mistake in a configuration, in one line: file:line, dotted key, what was expected, nearest name."""

    def __str__(self) -> str:
        return " ".join(str(argument) for argument in self.args)


class ConfigKeyError(ConfigError, KeyError):
    """A setting or parameter that does not exist or has no value, for lookups in mappings."""


def config_error(origin: str, key: str, message: str) -> ConfigError:
    """Return the one-line error for the value at the dotted `key` that came from `origin` (file:line, -o)."""
    place = f"{origin}: {key}" if key else origin
    return ConfigError(" ".join(f"{place}: {message}".split()))


def nearest(name: str, valid: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean 'X'?" with the valid name closest to `name`, or "" if none is close.

    A name that differs only in case is closest of all. `cutoff` is the least likeness, 1 that of equal names.
    """
    choices = sorted(set(valid))
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=cutoff)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""
