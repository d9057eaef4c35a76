"""Requests to the server that mean harm, as bytes on a connection of their own.

Each attack is a function of a socket that is connected to the server, and of a random generator. It returns the status
of the answer, or 0 if the server closed the connection without one, or the attack did not wait for one.
"""

import base64
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable

from serving import form

Attack = Callable[[socket.socket, random.Random], int]
PATIENCE = 60.0  # seconds for an answer; the server's own limits are shorter
HOLD = 3.0  # seconds for which slow attacks go on


def scan_bomb(side: int = 4000, scans: int = 20_000) -> bytes:
    """A gray progressive JPEG of 230 kB with thousands of scans; each goes through all blocks."""

    def segment(marker: int, content: str) -> bytes:
        data = bytes.fromhex(content)
        return bytes([255, marker]) + struct.pack(">H", 2 + len(data)) + data

    no_codes = "00" * 15
    header = segment(0xDB, "00" + "01" * 64) + segment(0xC2, f"08{side:04x}{side:04x}01011100")
    constant = segment(0xC4, f"0001{no_codes}00") + segment(0xDA, "010100000001") + bytes((side // 8) ** 2 // 8 + 1)
    # The code 0 and 13 bits: this block and the 16,382 after it have no further coefficients.
    scan = segment(0xDA, "010100013f21") + b"\x7f\xfe"
    run = segment(0xC4, f"1001{no_codes}d0")
    return b"\xff\xd8" + header + constant + run + scan * scans + b"\xff\xd9"


def png(width: int, height: int) -> bytes:
    """A PNG of one color, however large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compressobj(9)
    rows = b"".join(pixels.compress(bytes(1 + 3 * width)) for _ in range(min(height, 2000))) + pixels.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class Attacks:
    """The attacks, by name.

    Args:
        image: an image that the server can read.
        token: what the server's clients have to send; None if the server has none.
    """

    def __init__(self, image: bytes, token: str | None) -> None:
        self.image = image
        self.token = token
        self.bomb = scan_bomb()
        self.broken = [b"", b"not an image", image[: len(image) // 2], b"\x89PNG\r\n\x1a\n" + bytes(100)]
        self.broken += [
            png(30_000, 30_000),
            png(70_000, 10),
            bytes(2_000_000),
            b"\xff\xd8\xff" + bytes(1000),
            b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        ]
        names = (name for name in vars(type(self)) if not name.startswith("_") and name != "all")
        self.all: dict[str, Attack] = {name: getattr(self, name) for name in names}

    def _head(self, length: int | None, *lines: str, host: str = "127.0.0.1", token: bool = True) -> bytes:
        """The head of a POST request."""
        more = [f"Content-Length: {length}"] if length is not None else []
        more += [f"Authorization: Bearer {self.token}"] if self.token and token else []
        return "\r\n".join([f"POST /predict HTTP/1.1\r\nHost: {host}", *more, *lines, "", ""]).encode("latin-1")

    def _form(self, image: bytes, *lines: str, **options: str) -> bytes:
        """A whole request with an image."""
        body, headers = form(image, **options)
        return self._head(len(body), *(f"{name}: {value}" for name, value in headers.items()), *lines) + body

    def _file(self, image: bytes, *lines: str) -> bytes:
        """A whole request whose body is the image file itself."""
        return self._head(len(image), "Content-Type: application/octet-stream", *lines) + image

    def _json(self, text: str) -> bytes:
        return self._head(len(text), "Content-Type: application/json") + text.encode()

    def scans_of_jpeg(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._form(self.bomb))

    def broken_image(self, to: socket.socket, rng: random.Random) -> int:
        make = rng.choice([self._form, self._file])
        return ask(to, make(rng.choice(self.broken), *rng.choice([(), ("Accept: image/jpeg",)])))

    def damaged_image(self, to: socket.socket, rng: random.Random) -> int:
        damaged = bytearray(self.image)
        for _ in range(rng.randrange(1, 20)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        return ask(to, rng.choice([self._form, self._file])(bytes(damaged)))

    def unknown_keys(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._json(json.dumps({f"k{i}": 0 for i in range(300_000)})))

    def deep_json(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._json('{"image": ' + "[" * 1_000_000))

    def long_number(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._json('{"image": "", "threshold": ' + "9" * 3_000_000 + "}"))

    def wrong_base64(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._json(json.dumps({"image": base64.b64encode(self.image).decode() + "\u00e9" * 1000})))

    def query_names(self, to: socket.socket, rng: random.Random) -> int:
        query = "&".join(f"a{i}=1" for i in range(15_000)).encode()
        return ask(to, self._form(self.image).replace(b"/predict", b"/predict?" + query, 1))

    def many_headers(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._form(self.image, *(f"X-{i}: {i}" for i in range(3000))))

    def form_fields(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._form(self.image, **{f"field{i}": "x" * 100 for i in range(5000)}))

    def chunks_of_one_byte(self, to: socket.socket, rng: random.Random) -> int:
        head = self._head(None, "Transfer-Encoding: chunked", "Content-Type: application/json")
        return ask(to, head, b"1\r\n{\r\n" * 100_000)

    def both_lengths(self, to: socket.socket, rng: random.Random) -> int:
        return ask(
            to, self._head(5, "Transfer-Encoding: chunked", "Content-Type: application/json") + b"0\r\n\r\nGET / "
        )

    def huge_body(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._head(2**40, "Content-Type: application/json"), bytes(2**20))

    def growing_body(self, to: socket.socket, rng: random.Random) -> int:
        head = self._head(None, "Transfer-Encoding: chunked", "Content-Type: application/json")
        return ask(to, head, *(b"100000\r\n" + bytes(2**20) + b"\r\n" for _ in range(30)))

    def no_token(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._head(30 * 2**20, "Content-Type: application/json", token=False), bytes(2**20))

    def wrong_token(self, to: socket.socket, rng: random.Random) -> int:
        wrong = f"Authorization: Bearer {'x' * rng.randrange(1, 5000)}"
        return ask(to, self._head(2, "Content-Type: application/json", wrong, token=False) + b"{}")

    def foreign_host(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._head(2, "Content-Type: application/json", host="evil.example") + b"{}")

    def foreign_origin(self, to: socket.socket, rng: random.Random) -> int:
        return ask(to, self._form(self.image, "Origin: http://evil.example"))

    def other_protocol(self, to: socket.socket, rng: random.Random) -> int:
        tls, http2 = b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        return ask(to, rng.choice([tls * 10, http2, rng.randbytes(5000), b"\r\n" * 50_000]))

    def wrong_path(self, to: socket.socket, rng: random.Random) -> int:
        path = rng.choice(["/../../etc/passwd", "/predict/../..", "/%00", "//evil.example", "/" + "a" * 100_000])
        return ask(to, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def slow_head(self, to: socket.socket, rng: random.Random) -> int:
        return drip(to, self._head(2, "Content-Type: application/json"))

    def slow_body(self, to: socket.socket, rng: random.Random) -> int:
        to.sendall(self._head(10_000, "Content-Type: application/json"))
        return drip(to, b'{"image": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')

    def half_open(self, to: socket.socket, rng: random.Random) -> int:
        time.sleep(HOLD)
        return 0

    def gone_in_the_middle(self, to: socket.socket, rng: random.Random) -> int:
        request = self._form(self.image)
        to.sendall(request[: rng.randrange(len(request))])
        return 0

    def gone_before_the_answer(self, to: socket.socket, rng: random.Random) -> int:
        to.sendall(self._form(self.image))
        return 0

    def never_reads(self, to: socket.socket, rng: random.Random) -> int:
        to.sendall(self._form(self.image, "Accept: image/png") * 3)
        time.sleep(HOLD)
        return 0


def ask(to: socket.socket, *parts: bytes) -> int:
    """Send what the server takes of the parts; return the status of its answer."""
    try:
        for part in parts:
            to.sendall(part)
    except OSError:
        pass  # it has answered already, or has closed the connection
    return status(to)


def status(to: socket.socket) -> int:
    to.settimeout(PATIENCE)
    try:
        line = to.recv(64)
    except ConnectionError:
        return 0
    return int(line[9:12]) if line.startswith(b"HTTP/1.1 ") else 0


def drip(to: socket.socket, content: Iterable[int]) -> int:
    """Send one byte after the other, slowly; then leave."""
    end = time.monotonic() + HOLD
    for byte in content:
        if time.monotonic() > end:
            break
        try:
            to.sendall(bytes([byte]))
        except OSError:
            return 0
        time.sleep(0.1)
    return 0
