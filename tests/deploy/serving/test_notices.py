"""Lines in the log about what clients do."""

import logging

from ppdet.deploy.serving import notices
from ppdet.deploy.serving.notices import Notices


def test_one_line_per_kind_and_minute(monkeypatch):
    lines, now = [], [1000.0]
    logger = logging.Logger("notices")
    logger.addHandler(handler := logging.Handler())
    handler.emit = lambda record: lines.append(record.getMessage())
    monkeypatch.setattr(notices.time, "monotonic", lambda: now[0])
    noted = Notices(logger)
    for second in range(150):
        for _ in range(1000):
            noted.tell("requests refused")
        if second == 70:
            noted.tell("connections closed")
        now[0] += 1
        noted.flush()
    assert lines == [
        "1000 requests refused",
        "60000 requests refused",
        "1 connections closed",
        "60000 requests refused",
    ]
