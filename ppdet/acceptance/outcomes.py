"""What a check says of itself, and what the kit says of it."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

PASS, FAIL, SKIPPED = "pass", "fail", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What a check that passed returns.

    detail: one line for the table, with the figure that decided and its limit. numbers: all that was measured, for the
    report.
    """

    detail: str
    numbers: dict = field(default_factory=dict)


class Failed(Exception):
    """Raised by a check: the device does not do what it should. The message is one line, as `Outcome.detail`."""

    def __init__(self, detail: str, **numbers: object) -> None:
        super().__init__(detail)
        self.detail, self.numbers = detail, numbers


class Skipped(Exception):
    """Raised by a check that finds out while it runs that it cannot be made here; the message says why."""


@dataclass(frozen=True)
class Result:
    """One row of the report.

    Args:
        status: pass, fail or skipped. detail: why, in a line. seconds: that it took. traceback: of an exception.
        log: the end of what the process printed meanwhile, for one that failed.
    """

    name: str
    status: str
    detail: str
    numbers: dict = field(default_factory=dict)
    seconds: float = 0.0
    traceback: str | None = None
    log: str | None = None

    def to_json(self) -> dict:
        return {**asdict(self), "numbers": plain(self.numbers)}

    @classmethod
    def from_json(cls, content: dict) -> "Result":
        return cls(**content)


def plain(value: Any) -> Any:
    """`value` as JSON has it: numbers of NumPy as numbers, nan, infinities and what is unknown as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def one_line(text: str, longest: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 2]} …"
