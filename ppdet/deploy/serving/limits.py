"""Limits of requests, and the error for a request that exceeds them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from ppdet.data.image_files import ImageHeader, Unreadable, read_size
from ppdet.utils.errors import ImageError

# Image formats that are decoded; see ppdet.data.image_files.
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
LONGEST_REASON = 200
# Every STALL_S seconds, at least PROGRESS further bytes of a request must have arrived.
STALL_S = 10.0
PROGRESS = 4096
# While all places for requests are taken, one that arrives at less than CROWDED_SPEED bytes per second for CROWDED_S
# seconds loses its place.
CROWDED_S = 2.0
CROWDED_SPEED = 16 * 1024


@dataclass(frozen=True)
class Settings:
    """Limits of the server.

    Args:
        max_batch: most images in one run of the model.
        max_delay_ms: how long the first image of a batch waits for other images.
        max_queue: most requests at the same time, from reading to the answer; further ones get status 503.
        max_body_mb: most mebibytes (2**20 bytes) in a request.
        max_pixels: most pixels (width times height) in an image.
        max_windows: most windows of an image, if images are sliced.
        timeout_s: longest time from the first byte of a request to its answer.
        token: secret that requests must carry; None if they need none.
        own_names: names, in lower case, that requests may use for this server, besides addresses.
        trusted_hosts: further such names; pages from these hosts may use the server too.
        max_connections: most connections at the same time, in all.
        max_connections_per_address: most connections at the same time from one address.
    """

    max_batch: int = 4
    max_delay_ms: float = 5.0
    max_queue: int = 64
    max_body_mb: float = 20.0
    max_pixels: int = 50_000_000
    max_windows: int = 256
    timeout_s: float = 30.0
    token: str | None = None
    own_names: frozenset[str] = frozenset({"localhost"})
    trusted_hosts: frozenset[str] = frozenset()
    max_connections: int = 512
    max_connections_per_address: int = 128

    @property
    def max_body(self) -> int:
        """Most bytes in a request."""
        return int(self.max_body_mb * 2**20)


class Refused(Exception):
    """A request that gets an HTTP error status and one line that says why.

    The client sees the line, so it must tell nothing about the server except the limits that the request exceeds.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        line = "".join(c if c.isprintable() else " " for c in reason)
        line = " ".join(line.split())
        self.reason = line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."
        super().__init__(self.reason)
        self.status = status
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        return JSONResponse({"error": self.reason}, self.status, self.headers)


def too_busy(reason: str) -> Refused:
    """Status 503; the client may try again in a second."""
    return Refused(503, reason, {"Retry-After": "1"})


async def read_within(request: Request, max_body: int, crowded: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the parts of a request's body as they arrive.

    Args:
        crowded: tells whether other requests wait for a place.

    Raises:
        Refused: the body, or the size that its header announces, is larger than `max_body` bytes; it comes too slowly.
        ClientDisconnect: the client has closed the connection.
    """
    too_large = Refused(413, f"the request is larger than {max_body / 2**20:.3g} MiB")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_body:
        raise too_large
    now = asyncio.get_running_loop().time
    start, size, more = now(), 0, True
    needed, deadline = PROGRESS, start + STALL_S
    arriving = asyncio.ensure_future(request.receive())
    try:
        while more:
            # Not wait_for: before Python 3.12 it loses the end of its caller's time if a part arrives in that moment.
            done, _ = await asyncio.wait({arriving}, timeout=min(STALL_S, CROWDED_S))
            message: Any = arriving.result() if done else {}
            if message.get("type") == "http.disconnect":
                raise ClientDisconnect
            part, more = message.get("body", b""), message.get("more_body", not message)
            size += len(part)
            if size > max_body:
                raise too_large
            if size >= needed:
                needed, deadline = size + PROGRESS, now() + STALL_S
            if more and now() > deadline:
                raise Refused(408, f"less than {PROGRESS} bytes of the request arrived within {STALL_S:g} s")
            if more and crowded() and now() - start > CROWDED_S and size < CROWDED_SPEED * (now() - start):
                raise Refused(408, "the request arrives slowly, and others wait for its place")
            if part:
                yield part
            if done and more:
                arriving = asyncio.ensure_future(request.receive())
    finally:
        arriving.cancel()


def check_image(data: bytes, max_pixels: int) -> ImageHeader:
    """Check the kind of an image file and the number of its pixels, which its first bytes say; return these.

    What else may be wrong with it, decoding finds out: `ppdet.data.image_files.check_header` comes first there too.

    Raises:
        Refused: the file is not an image of a known format, or has more than `max_pixels` pixels.
    """
    if not data:
        raise Refused(400, "the image is an empty file")
    try:
        header = read_size(data)
    except Unreadable:
        header = None
    if header is None or header.kind not in KINDS:
        raise Refused(400, f"not an image, or damaged; expected one of {', '.join(KINDS)}")
    if header.decoded > max_pixels:
        raise Refused(413, f"the image has more than {max_pixels} pixels")
    return header


def broken_image(error: ImageError) -> Refused:
    """The error for an image that cannot be decoded, without OpenCV's details in parentheses, which are about us."""
    return Refused(400, f"the image cannot be decoded: {error.reason.split(' (')[0]}")
