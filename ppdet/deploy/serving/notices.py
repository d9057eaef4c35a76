"""Lines in the log about what clients do: seldom, however often it happens."""

import logging
import time
from collections import Counter

EVERY_S = 60.0


class Notices:
    """Counts events of a few kinds, and writes at most one line per kind and minute."""

    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger
        self.counts: Counter[str] = Counter()
        self.last: dict[str, float] = {}

    def tell(self, kind: str) -> None:
        """Note an event; `kind` is a sentence of the server, without anything from a request."""
        self.counts[kind] += 1

    def flush(self) -> None:
        """Write what has been noted, except kinds that were written within the last minute."""
        now = time.monotonic()
        for kind, count in list(self.counts.items()):
            if now - self.last.get(kind, -EVERY_S) >= EVERY_S:
                self.logger.warning("%d %s", count, kind)
                self.last[kind] = now
                del self.counts[kind]
