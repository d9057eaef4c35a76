"""Results of checks: what a check returns or raises, and the row of the report that the kit makes of it."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What a check returns when it passes.

    Args:
        detail: one line for the table, with the decisive figure and its limit.
        numbers: all measured figures by name, for the report.
    """

    detail: str
    numbers: dict[str, Any] = field(default_factory=dict)


class Failed(Exception):
    """Raised by a check when the device does not do what it should. Takes the same arguments as `Outcome`."""

    def __init__(self, detail: str, **numbers: Any) -> None:
        super().__init__(detail)
        self.detail, self.numbers = detail, numbers


def outcome_if(passed: bool, detail: str, numbers: dict[str, Any]) -> Outcome:
    """Return an `Outcome`, or raise `Failed` with the same detail and numbers, depending on `passed`."""
    if not passed:
        raise Failed(detail, **numbers)
    return Outcome(detail, numbers)


class Skipped(Exception):
    """Raised by a check that finds out, while it runs, that it cannot run on this machine. The message says why."""


@dataclass(frozen=True)
class Result:
    """The result of a check: one row of the report.

    Args:
        name: name of the check.
        status: PASS, FAIL or SKIPPED.
        detail: the reason for the status, in one line.
        numbers: measured figures by name.
        seconds: how long the check ran.
        traceback: traceback of an unexpected exception.
        log: for a failed check, the last lines that its process printed.
    """

    name: str
    status: str
    detail: str
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    traceback: str | None = None
    log: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "numbers": to_plain_json(self.numbers)}


def to_plain_json(value: Any) -> Any:
    """Return `value` with NumPy's numbers and arrays as plain ones; NaN, infinity and other objects become text."""
    if isinstance(value, dict):
        return {str(key): to_plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain_json(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def one_line(text: str, longest: int = 300) -> str:
    """Return `text` in one line, cut to `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 2]} …"
