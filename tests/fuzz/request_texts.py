"""HTTP requests as bytes: mostly right, with a few things that are not."""

import base64
import json
from typing import Any
from urllib.parse import quote

from fuzz.draw import Draw, dump
from fuzz.mutate import changed_tree, damaged
from fuzz.picture_bytes import MAKERS, honest, slight

# fmt: off
OWN = ["image", "threshold", "format"]
METHODS = ["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "post", "A" * 5000, "P\0ST", ""]
TARGETS = [
    "/healthz", "/readyz", "/metrics", "/model", "/docs", "/openapi.json", "/", "/page.js",
    "/nowhere", "//predict", "/predict/", "/%70redict", "*",
    "predict",
    "http://evil.example/predict", "/predict#x", "\\predict", "/../predict", "/" + "a" * 70_000, "/predict\x0b",
    "/\xff", "",
]
VERSIONS = ["HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1", "", "HTTP/1.1 x", "HTTP/1.01", "HTTP/\x001.1"]
HOSTS = [
    "localhost", "evil.example", "", "127.0.0.1:99999", "[::1]",
    "a b", "127.0.0.1@evil.example", "127.0.0.1, b", "\xe9",
]
JSON_TYPES = ["application/json; charset=utf-16", "text/json", "application/json;" * 100, "APPLICATION/JSON", "\x01"]
FILE_TYPES = ["image/jpeg", "image/png", "image/tiff; x=y", "IMAGE/BMP", "image/webp", "image/gif", "image/*", "image"]
LENGTHS = [
    0, 1, -1, 10**9, 10**30, "+5", "5,5", "0x5", "", "5 5", "1e3", "\uff19", "1_0", "\xb2", "9" * 5000,
    "00000000000005",
]
CHUNKS = [
    b"-1\r\n", b"ffffffffffffffffff\r\n", b"zz\r\n", b"\r\n", b"0x5\r\nabcde\r\n", b"5\nabcde\n", b"5 \r\nabcde\r\n",
    b"0" * 5000 + b"1\r\nx\r\n", b"5\r\nabcdeX\r\n", b"\xff\r\n",
]
TRAILERS = ["A: b\r\n", "A: b\r\n" * 2000, "Content-Length: 5\r\n", "A\0: b\r\n", ": \r\n", "A" * 100_000]
CODINGS = ["Chunked", "gzip, chunked", "chunked, chunked", "identity", "chunked\x0b", "xchunked", "chunked;q=1", ""]
HEADERS = [
    ("Expect", "100-continue"), ("Expect", "200-ok"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
    ("Upgrade", "websocket"), ("Connection", "close"), ("Connection", "keep-alive"), ("Accept", "image/jpeg"),
    ("Accept", "image/png, */*"), ("Accept", ",;,;=" * 1000), ("Accept-Encoding", "gzip"), ("Content-Encoding", "gzip"),
    ("Authorization", "Bearer x"), ("Authorization", "Basic " + "x" * 1000), ("Origin", "http://evil.example"),
    ("Origin", "null"),
    ("Range", "bytes=0-5,1-99999999999"), ("If-None-Match", "*"), ("Cookie", "a=b; " * 1000),
    ("X-Forwarded-For", "\x1b[31m"),
    ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13"), ("X\x01Y", "z"), ("", "x"), ("A b", "c"),
    ("Content-Type", ""),
    ("X", "y\r\n z"), ("X", "a\r\nInjected: b"), ("X", "\xff\xfe"), ("Host", "evil.example"), ("X", "z" * 80_000),
    ("Content-Type", "multipart/form-data"), ("Content-Type", "multipart/form-data; boundary="), ("Origin", "\x1b[31m"),
]
VALUES = [
    "0.5", "0", "1", "json", "jpeg", "png", "1e999", "nan", "-1", "%zz", "%ff", "%00", "+", "", "x" * 10_000,
    "%1b[31m",
]
FILES = [
    '; filename="../../x"', "; filename*=utf-8''%00", '; filename="\x1b[31m"', f'; filename="{"a" * 5000}"',
    "; filename", "",
]
BOUNDARIES = ["b" * 70, "b" * 5000, "b c", "--", "\xff", "'b'", "", "\x00"]
PART_HEADERS = [
    "Content-Transfer-Encoding: base64\r\n", "X: y\r\n" * 1000, "\x01: \r\n", ": \r\n", "X" * 9000,
    "Content-Disposition: x\r\n", "\r\n",
]
FIELDS = ["0", "json", "png", "x" * 100_000, "1e999", "", "\x1b[31m", "nan", "\xff"]
BASE64 = [
    "data:image/png;base64,AAAA", "====", "A", "AAA=" * 1000, "A" * 1_000_001, "\u0661",
    "AAAA\nAAAA", "", " ", "_-_-",
]
OTHERS = [
    "", "null", "[]", '"x"', "1" * 5000, "NaN", '{"image": 1e999999999}', '{"image": "\\ud800"}', "\ufeff{}",
    "{" * 3, '{"image": "\\',
]
RAW = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40),
    b"SSH-2.0-x\r\n",
    b"\r\n" * 1000, b"\0" * 1000, b"GET", b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x",
    b"A" * 100_000, b"",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000,
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,
]
# fmt: on


def request(draw: Draw, make: str, *, is_valid: bool = False) -> tuple[bytes, str]:
    """One request, as bytes, and how it was made: a "form", a "file", "json", a "query", or with odd "headers".

    `is_valid`: one that a client of ours could send, apart from values that `draw` says may be odd.
    """
    body, headers, made = b"", [], make
    if make == "form":
        body, kind = form(draw, is_valid=is_valid)
        headers.append(("Content-Type", kind))
    elif make == "json":
        body, made = json_body(draw, is_valid=is_valid)
        headers.append(("Content-Type", draw.mostly("application/json", [*JSON_TYPES, draw.text()], 0.05)))
    elif make == "file":
        body = picture(draw, is_valid=is_valid)
        headers.append(("Content-Type", draw.mostly("application/octet-stream", FILE_TYPES, 0.3)))
    has_body = make in ("form", "file", "json")
    method = draw.mostly("POST" if has_body else "GET", METHODS, 0.03 if has_body else 0.2)
    target = draw.mostly("/predict", [*TARGETS, draw.text()], 0.03 if has_body else 0.6)
    if make == "query" or (not is_valid and draw.chance(0.2)):
        target += query(draw)
    version = draw.mostly("HTTP/1.1", VERSIONS, 0.02)
    body, framing = framed(draw, body)
    headers = [("Host", draw.mostly("127.0.0.1", HOSTS, 0.04)), *headers, *framing]
    if make == "headers" or (not is_valid and draw.chance(0.05)):
        found = draw.sample([*HEADERS, (draw.text(), draw.text())], draw.one([1, 1, 2, 4]))
        headers += found * draw.mostly(1, [2, 500])
    if draw.chance(0.05):
        draw.shuffle(headers)
    line = draw.mostly("\r\n", ["\n", "\r"], 0.01)
    lines = [f"{method} {target} {version}".rstrip(), *(f"{name}: {value}" for name, value in headers), "", ""]
    return line.join(lines).encode(draw.one(["latin-1", "utf-8"]), "replace") + body, made


def framed(draw: Draw, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """The body with what says its length, which is mostly right."""
    how = draw.mostly(draw.one(["length", "length", "chunks"]), ["wrong", "wrong", "both", "none"])
    if how == "length":
        return body, [("Content-Length", str(len(body)))]
    if how == "none":
        return body, []
    if how == "wrong":
        length = draw.one([*LENGTHS, len(body) - 1, len(body) + 1, draw.text()])
        return body, [("Content-Length", str(length))] * draw.one([1, 1, 2])
    size = draw.one([1, 7, 100, 4096, len(body) or 1])
    extension = draw.mostly("", [";a=b", ";" + "x" * 1000, ";\x00"])
    parts = [body[i : i + size] for i in range(0, min(len(body), 20_000 * size), size)]
    chunks = [f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n" for part in parts]
    if draw.odd_left and draw.chance(0.1):
        chunks.insert(draw.randrange(len(chunks) + 1), draw.one(CHUNKS))
    content = b"".join(chunks) + b"0\r\n" + draw.mostly("", TRAILERS).encode() + b"\r\n"
    headers = [("Transfer-Encoding", draw.mostly("chunked", CODINGS, 0.05))]
    return content, headers + ([("Content-Length", str(len(body)))] if how == "both" else [])


def query(draw: Draw) -> str:
    """A query: mostly with the names that the server knows, and encoded."""
    pairs = []
    for _ in range(draw.one([1, 1, 2, 10])):
        name = draw.mostly(
            draw.one(["threshold", "format"]), ["image", draw.text()[:50], "a[b]", "threshold%00", ""], 0.2
        )
        value = draw.one([*VALUES, draw.text()[:100], str(draw.number())[:400]])
        encoded = [part if draw.chance(0.02) else quote(part, safe="%[]+", errors="replace") for part in (name, value)]
        pairs.append(draw.mostly("=", ["", "=="]).join(encoded))
    if draw.chance(0.05):
        pairs += [f"k{i}={i}" for i in range(draw.one([100, 5000]))]
    return "?" + draw.mostly("&", [";", "&&"]).join(pairs)


def picture(draw: Draw, *, is_valid: bool = False) -> bytes:
    """An image file: honest, damaged, or something else; `is_valid`: honest, or with one bit or number changed."""
    if is_valid:
        return slight(draw)[1]
    if draw.chance(0.5):
        return draw.one(honest()[draw.one(["jpg", "png", "webp", "bmp", "tif"])])
    return draw.one(MAKERS)(draw)[1] if draw.chance(0.9) else draw.one([b"", b"\0", b"x" * 100, bytes(3_000_000)])


def form(draw: Draw, *, is_valid: bool = False) -> tuple[bytes, str]:
    """A multipart form, and its content type."""
    boundary = draw.mostly("b", BOUNDARIES, 0.05)
    names = draw.one([["image"], ["image", "threshold"], ["threshold", "image", "format"]])
    if not is_valid and draw.chance(0.15):
        names = [draw.one([*OWN, draw.text()]) for _ in range(draw.one([0, 2, 5, 12, 300]))]
    parts = []
    for name in names:
        disposition = f'form-data; name="{name}"'
        if name == "image":
            disposition += draw.mostly('; filename="x"', FILES)
        content = (
            picture(draw, is_valid=is_valid)
            if name == "image"
            else draw.mostly(b"0.5", [*map(str.encode, FIELDS), draw.text().encode("utf-8", "replace")])
        )
        if name == "format":
            content = draw.one([b"json", b"png"]) if is_valid else draw.mostly(b"json", [b"png", b"jpeg", b"gif"], 0.5)
        more = draw.mostly(draw.one(["", "Content-Type: image/png\r\n"]), PART_HEADERS, 0.03)
        disposition = draw.mostly(
            disposition, ["", "form-data", 'attachment; name="image"', "form-data; name", disposition * 50], 0.03
        )
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n{more}\r\n"
        parts.append(head.encode("utf-8", "replace") + content + b"\r\n")
    end = draw.mostly(
        f"--{boundary}--\r\n", ["", f"--{boundary}--", f"--{boundary}\r\n", f"--{boundary}" + "-" * 1000], 0.05
    )
    start = draw.mostly(b"", [b"\r\n", b"preamble\r\n", b"-" * 10_000], 0.03)
    kinds = [
        f'multipart/form-data; boundary="{boundary}"',
        "multipart/form-data",
        f"multipart/mixed; boundary={boundary}",
        f"multipart/form-data; boundary={boundary}; boundary=c",
    ]
    kind = draw.mostly(f"multipart/form-data; boundary={boundary}", kinds, 0.05)
    return start + b"".join(parts) + end.encode("utf-8", "replace"), kind


def json_body(draw: Draw, *, is_valid: bool = False) -> tuple[bytes, str]:
    """A body in JSON, and how it was made."""
    content: Any = {"image": base64.b64encode(picture(draw, is_valid=is_valid)).decode()}
    if draw.chance(0.5):
        content |= {"threshold": draw.mostly(0.5, [0, 1, draw.number()]), "format": draw.one(["json", "png", None])}
    make = draw.one(
        ["honest", "honest", "honest", "tree", "tree", "keys", "nested", "twice", "base64", "damaged", "other"]
    )
    text = json.dumps(content)
    if is_valid:
        make = "honest"
    if make == "tree":
        text = dump(changed_tree(draw, content)[0])
    elif make == "keys":
        keys = ", ".join(f'"{draw.one(["k", "image", ""])}{i}": {i}' for i in range(draw.one([1, 10, 1000, 50_000])))
        text = f"{{{keys}, {text[1:]}"
    elif make == "nested":
        depth = draw.one([50, 1000, 100_000])
        starts = [
            '{"image": ' + "[" * depth,
            "[" * depth + "]" * depth,
            '{"image":' * depth,
            '{"threshold": ' + "-" * depth,
        ]
        text = draw.one(starts)
    elif make == "twice":
        text = text[:-1] + draw.one(
            [', "image": "x"}', ', "threshold": 1, "threshold": 2}', f', "image": {dump(draw.value())}}}']
        )
    elif make == "base64":
        text = json.dumps({"image": draw.one([*BASE64, draw.text()])})
    elif make == "other":
        text = draw.one([*OTHERS, dump(draw.value())])
    data = text.encode(draw.mostly("utf-8", ["utf-16", "utf-32"], 0.03), "surrogatepass")
    return (damaged(draw, data)[0] if make == "damaged" else data), f"json, {make}"
