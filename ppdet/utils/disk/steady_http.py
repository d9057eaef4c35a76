"""HTTP connections that end with an error if bytes arrive so slowly that a transfer would never end.

A time-out of a socket begins anew with each byte.
"""

import http.client
import io
import time
import urllib.request
from typing import Any

LEAST_BYTES, WINDOW_SECONDS = 4096, 30.0  # so many bytes must arrive in such a time; far below any line of today


class _SteadyReader(io.RawIOBase):
    """Reads from another raw stream; TimeoutError where less than LEAST_BYTES arrive within WINDOW_SECONDS."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw, self._begin, self._arrived = raw, 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count = self._raw.readinto(buffer)
        now = time.monotonic()
        self._begin = self._begin or now  # the time until the first byte is limited by the socket's time-out
        self._arrived += count or 0
        if count and now - self._begin >= WINDOW_SECONDS:
            if self._arrived < LEAST_BYTES:
                raise TimeoutError(f"only {self._arrived:,} bytes arrived in {now - self._begin:.0f} seconds")
            self._begin, self._arrived = now, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = io.BufferedReader(_SteadyReader(self.fp.detach()))


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class SteadyHandler(urllib.request.HTTPHandler):
    """Opens http addresses."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class SteadySecureHandler(urllib.request.HTTPSHandler):
    """Opens https addresses, with the certificates that are checked by default."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req)
