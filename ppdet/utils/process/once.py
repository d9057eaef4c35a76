"""Warnings that are logged once."""

import logging

_logged: set[str] = set()


def warn_once(logger: logging.Logger, key: str, message: str) -> None:
    """Log a warning unless one with the same key was logged before.

    The record carries the key as its attribute `once`, so that a process to which workers send their records can drop
    those that another worker has sent already.
    """
    if key not in _logged:
        _logged.add(key)
        logger.warning("%s", message, extra={"once": key})
