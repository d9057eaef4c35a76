"""Requests: raw bytes to a running server, which is a process of its own with a real model."""

import base64
import json
import re
import select
import socket
import struct
from pathlib import Path
from typing import Any

from serving import ServerProcess

from fuzz.case import Case, Kind
from fuzz.draw import Draw, dump
from fuzz.mutate import changed_tree, damaged
from fuzz.pictures import MAKERS, honest
from fuzz.sandbox import HARMFUL
from fuzz.small_model import write_model

TIMEOUT_S = 10  # of the server; a client here waits longer for an answer that must come
WAIT_S = 30
SOON_S, LATER_S = 0.3, 0.03  # until an answer begins, and until its next part or the next answer
OPTIONS = ["--backend", "onnxruntime", "--timeout_s", str(TIMEOUT_S), "--max_body_mb", "2", "--max_pixels", "1000000"]
TARGETS = ["/predict"] * 12 + [
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
    "/page.js",
    "/nowhere",
    "//predict",
    "/predict/",
    "/%70redict",
]
OWN = ["image", "threshold", "format"]
BUSY = (503, 504)  # documented answers of a server that is healthy


def build(draw: Draw) -> Case:
    make = draw.one(["form"] * 4 + ["json"] * 4 + ["query", "query", "raw", "headers", "headers", "several"])
    if make == "raw":
        data, made = raw(draw)
    elif make == "several":
        parts = [request(draw, draw.one(["form", "json", "query", "headers"])) for _ in range(draw.one([2, 3, 20]))]
        data, made = b"".join(part for part, _ in parts), "several requests"
    else:
        data, made = request(draw, make)
    if draw.chance(0.1):
        data, made = damaged(draw, data)[0], f"{made}, damaged"
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.one([0, 0, 0, 1, 3, 40])))
    end = draw.one(["wait"] * 12 + ["half", "close", "reset"])
    return Case("send", {"request.bin": data}, {"cuts": cuts, "end": end, "named": []}, made)


def request(draw: Draw, make: str) -> tuple[bytes, str]:
    """One request, as bytes, and how it was made."""
    body, headers, made = b"", [], make
    if make == "form":
        body, kind = form(draw)
        headers.append(("Content-Type", kind))
    elif make == "json":
        body, made = json_body(draw)
        headers.append(
            (
                "Content-Type",
                draw.one(["application/json"] * 12 + ["application/json; charset=utf-16", "text/json", draw.text()]),
            )
        )
    method = draw.one(
        ["POST"] * 19 + ["GET", "HEAD", "PUT", "OPTIONS", "TRACE", "CONNECT", "post", "A" * 5000, "P\0ST"]
    )
    if make == "query" and draw.chance(0.5):
        method = "GET"
    target = draw.one(
        [
            *TARGETS,
            "*",
            "http://evil.example/predict",
            "/predict#x",
            "\\predict",
            "/../predict",
            "predict",
            "/" + "a" * 70_000,
            draw.text(),
        ]
    )
    if make == "query" or draw.chance(0.3):
        target += query(draw)
    if make in ("form", "json") and draw.chance(0.9):
        method, target = "POST", "/predict" + (query(draw) if draw.chance(0.2) else "")
    version = draw.one(
        ["HTTP/1.1"] * 80 + ["HTTP/1.0", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "http/1.1", "", "HTTP/1.1 x"]
    )
    body, framing = framed(draw, body)
    headers += framing
    headers.insert(
        0,
        (
            "Host",
            draw.one(
                ["127.0.0.1"] * 60
                + ["localhost", "evil.example", "", "127.0.0.1:99999", "[::1]", "a b", "127.0.0.1@evil.example"]
            ),
        ),
    )
    if make == "headers" or draw.chance(0.05):
        headers += more_headers(draw)
    if draw.chance(0.05):
        draw.shuffle(headers)
    line = draw.one(["\r\n"] * 80 + ["\n", "\r"])
    text = line.join(
        [f"{method} {target} {version}".rstrip(), *(f"{name}: {value}" for name, value in headers), "", ""]
    )
    return text.encode(draw.one(["latin-1", "utf-8"]), "replace") + body, made


def framed(draw: Draw, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    """The body with what says its length, which is mostly right."""
    how = draw.one(["length"] * 16 + ["chunks"] * 8 + ["wrong", "wrong", "both", "none"])
    if how == "length":
        return body, [("Content-Length", str(len(body)))]
    if how == "none":
        return body, []
    if how == "wrong":
        size = len(body)
        wrong = [
            0,
            1,
            size - 1,
            size + 1,
            -1,
            10**9,
            10**30,
            "+5",
            "5,5",
            "0x5",
            "",
            "5 5",
            "1e3",
            "\uff19",
            "1_0",
            "\xb2",
            "9" * 5000,
            draw.text(),
        ]
        return body, [("Content-Length", str(draw.one(wrong)))] * draw.one([1, 1, 2])
    chunks, size = [], draw.one([1, 7, 100, 4096, len(body) or 1])
    parts = [body[i : i + size] for i in range(0, min(len(body), 20_000 * size), size)]
    extension = draw.one(["", "", "", ";a=b", ";" + "x" * 1000])
    chunks = [f"{len(part):x}{extension}\r\n".encode() + part + b"\r\n" for part in parts]
    if draw.chance(0.2):
        at = draw.randrange(len(chunks) + 1)
        strange = [
            b"-1\r\n",
            b"ffffffffffffffffff\r\n",
            b"zz\r\n",
            b"\r\n",
            b"0x5\r\nabcde\r\n",
            b"5\nabcde\n",
            b"5 \r\nabcde\r\n",
            b"0" * 5000 + b"1\r\nx\r\n",
        ]
        chunks.insert(at, draw.one(strange))
    trailer = draw.one(["", "", "", "A: b\r\n", "A: b\r\n" * 2000, "Content-Length: 5\r\n", "A\0: b\r\n"])
    content = b"".join(chunks) + b"0\r\n" + trailer.encode() + b"\r\n"
    coding = draw.one(
        ["chunked"] * 9 + ["Chunked", "gzip, chunked", "chunked, chunked", "identity", "chunked\x0b", "xchunked"]
    )
    headers = [("Transfer-Encoding", coding)]
    return content, headers + ([("Content-Length", str(len(body)))] if how == "both" else [])


def more_headers(draw: Draw) -> list[tuple[str, str]]:
    """Headers that change how a request is read, or are many or odd."""
    choices = [
        *[
            ("Expect", "100-continue"),
            ("Expect", "200-ok"),
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", "h2c"),
        ],
        *[("Upgrade", "websocket"), ("Connection", "close"), ("Connection", "keep-alive"), ("Accept", "image/jpeg")],
        *[
            ("Accept", "image/png, */*"),
            ("Accept", ",;,;=" * 1000),
            ("Accept-Encoding", "gzip"),
            ("Content-Encoding", "gzip"),
        ],
        *[
            ("Authorization", "Bearer x"),
            ("Authorization", "Basic " + "x" * 1000),
            ("Origin", "http://evil.example"),
            ("Origin", "null"),
        ],
        *[
            ("Range", "bytes=0-5,1-99999999999"),
            ("If-None-Match", "*"),
            ("Cookie", "a=b; " * 1000),
            ("X-Forwarded-For", "\x1b[31m"),
        ],
        *[
            ("Sec-WebSocket-Key", "x"),
            ("Sec-WebSocket-Version", "13"),
            ("X\x01Y", "z"),
            ("", "x"),
            ("A b", "c"),
            ("Content-Type", ""),
        ],
        *[
            ("X", "y\r\n z"),
            ("X", "a\r\nInjected: b"),
            ("X", "\xff\xfe"),
            (draw.text(), draw.text()),
            ("Host", "evil.example"),
        ],
        *[
            ("Content-Type", "multipart/form-data"),
            ("Content-Type", "multipart/form-data; boundary="),
            ("X", "z" * 80_000),
        ],
    ]
    found = draw.sample(choices, draw.one([1, 1, 2, 4]))
    return found * draw.one([1, 1, 1, 2, 500])


def query(draw: Draw) -> str:
    names = [*OWN, "threshold", "format", draw.text()[:50], "a[b]", "threshold%00", ""]
    values = [
        "0.5",
        "json",
        "png",
        "1e999",
        "nan",
        "-1",
        "%zz",
        "%ff",
        "%00",
        "+",
        "",
        draw.text()[:100],
        str(draw.number())[:400],
        "x" * 10_000,
    ]
    pairs = [
        f"{draw.one(names)}{draw.one(['=', '=', '=', ''])}{draw.one(values)}" for _ in range(draw.one([1, 1, 2, 10]))
    ]
    if draw.chance(0.1):
        pairs += [f"k{i}={i}" for i in range(draw.one([100, 5000]))]
    return "?" + draw.one(["&", "&", "&", ";"]).join(pairs)


def picture(draw: Draw) -> bytes:
    """An image file: honest, damaged, or something else."""
    if draw.chance(0.4):
        return draw.one(honest()[draw.one(["jpg", "png", "webp", "bmp", "tif"])])
    return draw.one(MAKERS)(draw)[1] if draw.chance(0.8) else draw.one([b"", b"\0", b"x" * 100, bytes(3_000_000)])


def form(draw: Draw) -> tuple[bytes, str]:
    """A multipart form, and its content type."""
    boundary = draw.one(["b"] * 6 + ["b" * 70, "b" * 5000, "b c", "--", "\xff", "'b'"])
    parts = []
    names = draw.one(
        [
            ["image"],
            ["image", "threshold"],
            ["threshold", "image", "format"],
            [draw.one([*OWN, draw.text()]) for _ in range(draw.one([0, 2, 5, 12, 300]))],
        ]
    )
    for name in names:
        disposition = f'form-data; name="{name}"'
        if name == "image" and draw.chance(0.9):
            disposition += draw.one(
                [
                    '; filename="x"',
                    '; filename="../../x"',
                    "; filename*=utf-8''%00",
                    '; filename="\x1b[31m"',
                    f'; filename="{"a" * 5000}"',
                ]
            )
        content = (
            picture(draw)
            if name == "image"
            else draw.one(["0.5", "json", "png", draw.text()[:500], "x" * 100_000, "1e999"]).encode("utf-8", "replace")
        )
        more = draw.one(
            [
                "",
                "",
                "",
                "Content-Type: image/png\r\n",
                "Content-Transfer-Encoding: base64\r\n",
                "X: y\r\n" * 1000,
                "\x01: \r\n",
                ": \r\n",
                "X" * 9000,
            ]
        )
        disposition = draw.one(
            [disposition] * 12 + ["", "form-data", 'attachment; name="image"', "form-data; name", disposition * 50]
        )
        parts.append(
            f"--{boundary}\r\nContent-Disposition: {disposition}\r\n{more}\r\n".encode("utf-8", "replace")
            + content
            + b"\r\n"
        )
    end = draw.one(
        [f"--{boundary}--\r\n"] * 8 + ["", f"--{boundary}--", f"--{boundary}\r\n", f"--{boundary}" + "-" * 1000]
    )
    start = draw.one([b""] * 8 + [b"\r\n", b"preamble\r\n", b"-" * 10_000])
    kind = draw.one(
        [f"multipart/form-data; boundary={boundary}"] * 8
        + [
            f'multipart/form-data; boundary="{boundary}"',
            "multipart/form-data",
            f"multipart/mixed; boundary={boundary}",
            f"multipart/form-data; boundary={boundary}; boundary=c",
        ]
    )
    return start + b"".join(parts) + end.encode("utf-8", "replace"), kind


def json_body(draw: Draw) -> tuple[bytes, str]:
    """A body in JSON, and how it was made."""
    content: Any = {"image": base64.b64encode(picture(draw)).decode()}
    if draw.chance(0.5):
        content |= {"threshold": draw.one([0.5, 0, 1, draw.number()]), "format": draw.one(["json", "png", None])}
    make = draw.one(["honest", "tree", "tree", "keys", "nested", "twice", "base64", "damaged", "other"])
    text = json.dumps(content)
    if make == "tree":
        content, _ = changed_tree(draw, content)
        text = dump(content)
    elif make == "keys":
        keys = ", ".join(f'"{draw.one(["k", "image", ""])}{i}": {i}' for i in range(draw.one([10, 1000, 50_000])))
        text = f"{{{keys}, {text[1:]}"
    elif make == "nested":
        depth = draw.one([50, 1000, 100_000])
        text = draw.one(
            ['{"image": ' + "[" * depth, "[" * depth + "]" * depth, '{"image":' * depth, '{"threshold": ' + "-" * depth]
        )
    elif make == "twice":
        text = text[:-1] + draw.one(
            [', "image": "x"}', ', "threshold": 1, "threshold": 2}', f', "image": {dump(draw.value())}}}']
        )
    elif make == "base64":
        text = json.dumps(
            {
                "image": draw.one(
                    [
                        "data:image/png;base64,AAAA",
                        "====",
                        "A",
                        "AAA=" * 1000,
                        "A" * 1_000_001,
                        "\u0661",
                        draw.text(),
                        "AAAA\nAAAA",
                    ]
                )
            }
        )
    elif make == "other":
        text = draw.one(
            [
                "",
                "null",
                "[]",
                '"x"',
                "1" * 5000,
                "NaN",
                '{"image": 1e999999999}',
                '{"image": "\\ud800"}',
                "\ufeff{}",
                "{" * 3,
                dump(draw.value()),
            ]
        )
    data = text.encode(draw.one(["utf-8"] * 9 + ["utf-16", "utf-32"]), "surrogatepass")
    return (damaged(draw, data)[0] if make == "damaged" else data), f"json, {make}"


def raw(draw: Draw) -> tuple[bytes, str]:
    """Bytes that are no request, or one of another protocol."""
    choices = [
        *[
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40),
            b"SSH-2.0-x\r\n",
        ],
        *[
            b"\r\n" * 1000,
            b"\0" * 1000,
            b"GET",
            b"GET /",
            b"GET / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nHost: x",
            b"A" * 100_000,
            b"",
        ],
        *[
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
            b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000,
            draw.randbytes(draw.one([1, 100, 5000])),
        ],
        *[
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,
        ],
    ]
    return draw.one(choices), "raw"


class Target:
    """The running server, and how far its log was read."""

    server: ServerProcess | None = None
    folder = Path()
    position = 0
    number = 0


def prepare(folder: Path) -> None:
    Target.folder = folder
    write_model(folder / "model")
    start()


def start() -> ServerProcess:
    if Target.server is not None:
        Target.server.__exit__()
    Target.number, Target.position = Target.number + 1, 0
    Target.server = ServerProcess(Target.folder / "model", Target.folder / f"server-{Target.number}.log", *OPTIONS)
    return Target.server.__enter__()


def close() -> None:
    if Target.server is not None:
        Target.server.__exit__()


def _send(case: Case) -> str:
    server = Target.server
    if server is None or server.process.poll() is not None:
        server = start()
    before = processor_seconds(server.process.pid)
    data, cuts = case.files["request.bin"], case.arguments["cuts"]
    assert isinstance(data, bytes)
    pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)])]
    answer = exchange(server.address, [piece for piece in pieces if piece], case.arguments["end"])
    statuses = [int(found) for found in re.findall(rb"^HTTP/1\.1 (\d{3})", answer, re.MULTILINE)]
    faults = [f"status {status}" for status in statuses if status >= 500 and status not in BUSY]
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").replace("\r\n", "\n")
    if HARMFUL.search(head):
        faults.append(f"the answer's headers have control characters: {head!a:.300}")
    faults += alive(server)
    log = server.log.read_bytes()[Target.position :].decode("utf-8", "replace")
    Target.position += len(log.encode("utf-8", "replace"))
    if "Traceback" in log or HARMFUL.search(log):
        faults.append(f"the log has {log[-600:]!a}")
    seconds = processor_seconds(server.process.pid) - before
    if seconds > 5:
        faults.append(f"the server used {seconds:.1f} s of processor time")
    memory = server.resident_bytes() if Path("/proc").is_dir() else 0
    if memory > 1.5 * 2**30:
        faults.append(f"the server has {memory / 2**20:.0f} MiB")
    if faults:
        start()
        raise AssertionError("; ".join(faults))
    reason = re.search(rb'"error":"([^"]*)', answer)
    said = template(reason[1].decode("utf-8", "replace")) if reason else ""
    return f"status {' '.join(map(str, sorted(set(statuses)))) or 'none'} {said}"


def template(text: str) -> str:
    return re.sub(r"\d+", "N", text)[:60]


def exchange(address: tuple[str, int], pieces: list[bytes], end: str) -> bytes:
    """Send pieces and return the answer, which may be empty; the connection is closed afterwards.

    Where no answer comes soon, because the request is not complete, or not one, the sending side is closed.
    """
    answer = b""
    with socket.create_connection(address, WAIT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
            if end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if end in ("close", "reset"):
                return b""
            patience, is_open = SOON_S if end == "wait" else 0, True
            while True:
                if not select.select([connection], [], [], patience)[0]:
                    if not is_open:
                        raise AssertionError(f"no end of the answer within {WAIT_S} s; so far {answer[:200]!r}")
                    connection.shutdown(socket.SHUT_WR)
                    patience, is_open = WAIT_S, False
                    continue
                part = connection.recv(1 << 16)
                if not part:
                    return answer
                answer += part
                patience = LATER_S if is_open else WAIT_S
        except OSError:
            return answer  # the server may close a connection while more is sent


def alive(server: ServerProcess) -> list[str]:
    """What is wrong with the server after a request."""
    if server.process.poll() is not None:
        return [f"the server has ended with {server.process.returncode}"]
    try:
        status, _ = server.request("GET", "/healthz")
    except OSError as error:
        return [f"/healthz cannot be read: {error!r}"]
    return [] if status == 200 else [f"/healthz answers {status}"]


def processor_seconds(pid: int) -> float:
    """Processor time of a process and of its children that have ended; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / 100


REQUESTS = Kind(build, {"send": _send}, prepare=prepare, close=close, network="allowed")
