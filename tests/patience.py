"""Waiting in tests: for what has to happen, as long as a busy machine may take. No test passes or fails by a clock."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 600  # seconds after which an expected event counts as hanging


def wait_until(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """The condition's value as soon as that is true; what hangs fails the test."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {patience:g} s: {what}"
        time.sleep(0.02)
    return value
