"""What a request may not do, and how it is told."""

import io
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass

from PIL import Image
from starlette.requests import Request

from ppdet.utils.errors import ImageError

# Kinds of files that both Pillow, which reads their size, and OpenCV, which decodes them, know.
KINDS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
LONGEST_REASON = 200
# Pillow warns of many pixels by a limit of its own, and goes on; here it is max_pixels that counts.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Settings:
    """What the server admits.

    Args:
        max_batch: images in one run of the model at most.
        max_delay_ms: how long the first image of a batch waits for others.
        max_queue: requests that are read, prepared and waiting at most; more are told to come again.
        max_body_mb: size of a request, in units of 2**20 bytes. max_pixels: width x height of an image.
        timeout_s: from the first byte of a request to its answer.
        token: what requests have to carry; None: nothing.
    """

    max_batch: int = 4
    max_delay_ms: float = 5.0
    max_queue: int = 64
    max_body_mb: float = 20.0
    max_pixels: int = 50_000_000
    timeout_s: float = 30.0
    token: str | None = None

    @property
    def max_body(self) -> int:
        """In bytes."""
        return int(self.max_body_mb * 2**20)


class Refused(Exception):
    """A request that is answered with a status of HTTP and one line that says why.

    The line is for the client: it has nothing of the server in it but the limits that the request is beyond.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        line = "".join(c if c.isprintable() else " " for c in reason)
        line = " ".join(line.split())
        self.reason = line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."
        super().__init__(self.reason)
        self.status = status
        self.headers = headers or {}


def too_busy(reason: str) -> Refused:
    """For a request that may come again in a second."""
    return Refused(503, reason, {"Retry-After": "1"})


async def read_within(request: Request, max_body: int) -> AsyncIterator[bytes]:
    """Parts of the body as they come in, `max_body` bytes at most.

    Raises:
        Refused: the body is larger, by its header or, whatever that says, in fact.
    """
    too_large = Refused(413, f"the request is larger than {max_body / 2**20:.3g} MiB")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > max_body:
        raise too_large
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_body:
            raise too_large
        yield part


def check_image(data: bytes, max_pixels: int) -> None:
    """Look at the header of an image file, before anybody decodes it.

    Raises:
        Refused: it is no image of a known kind, or has more than max_pixels pixels.
    """
    if not data:
        raise Refused(400, "the image is an empty file")
    too_many = Refused(413, f"the image has more than {max_pixels} pixels")
    try:
        # Pillow reads the header now, and pixels never.
        with Image.open(io.BytesIO(data), formats=KINDS) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise too_many from None
    except Exception:  # whatever a parser may raise that was given a broken file
        raise Refused(400, f"not an image, or damaged; expected one of {', '.join(KINDS)}") from None
    if width * height > max_pixels:
        raise too_many


def broken_image(error: ImageError) -> Refused:
    """What the client is told: what OpenCV has in brackets is about our files, not about the client's."""
    return Refused(400, f"the image cannot be decoded: {error.reason.split(' (')[0]}")
