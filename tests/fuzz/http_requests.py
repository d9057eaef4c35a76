"""Requests: raw bytes to a running server, which is a process of its own with a real model."""

import os
import re
import select
import socket
import struct
from pathlib import Path

from serving import ServerProcess

from fuzz.case import Case, Declined, Kind
from fuzz.draw import Draw
from fuzz.mutate import damaged
from fuzz.request_texts import RAW, request
from fuzz.sandbox import HARMFUL
from fuzz.small_model import write_model

TIMEOUT_S = 10  # of the server; a client here waits longer for an answer that must come
WAIT_S = 60
SOON_S, LATER_S = 0.3, 0.03  # until an answer begins, and until its next part or the next answer
OPTIONS = ["--backend", "onnxruntime", "--timeout_s", str(TIMEOUT_S), "--max_body_mb", "2", "--max_pixels", "1000000"]
# Documented answers of a healthy server: it is busy, or the request is of another protocol.
OWN_STATUSES = (501, 503, 504, 505)
PROCESSOR_S = 5.0  # for one request, in all processes of the server together
MEMORY = 1.5 * 2**30  # of all processes of the server


def build(draw: Draw) -> Case:
    """In half of the cases a request with one odd value at most, or with a picture that has one."""
    if draw.chance(0.55):
        draw.odd_left = 1
        data, made = request(draw, draw.one(["form", "file", "json"]), is_valid=True)
        cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.one([0, 0, 0, 3])))
        return Case("send", {"request.bin": data}, {"cuts": cuts, "end": "wait"}, f"{made}, valid")
    make = draw.one(["form"] * 5 + ["file"] * 3 + ["json"] * 5 + ["query", "query", "raw", "headers", "several"])
    if make == "raw":
        data, made = draw.one([*RAW, draw.randbytes(draw.one([1, 100, 5000]))]), "raw"
    elif make == "several":
        kinds = ["form", "file", "json", "query", "headers"]
        parts = [request(draw, draw.one(kinds)) for _ in range(draw.one([2, 3, 20]))]
        data, made = b"".join(part for part, _ in parts), "several requests"
    else:
        data, made = request(draw, make)
    if draw.chance(0.05):
        data, made = damaged(draw, data)[0], f"{made}, damaged"
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(draw.mostly(0, [1, 3, 40], 0.3)))
    end = draw.mostly("wait", ["half", "close", "reset"], 0.2)
    return Case("send", {"request.bin": data}, {"cuts": cuts, "end": end}, made)


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
    before = usage(server.process.pid)[0]
    data, cuts = case.files["request.bin"], case.arguments["cuts"]
    assert isinstance(data, bytes)
    pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)])]
    answer = exchange(server.address, [piece for piece in pieces if piece], case.arguments["end"])
    statuses = [int(found) for found in re.findall(rb"^HTTP/1\.1 (\d{3})", answer, re.MULTILINE)]
    faults = [f"status {status}" for status in statuses if status >= 500 and status not in OWN_STATUSES]
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").replace("\r\n", "\n")
    if HARMFUL.search(head):
        faults.append(f"the answer's headers have control characters: {head!a:.300}")
    faults += alive(server)
    log = server.log.read_bytes()[Target.position :].decode("utf-8", "replace")
    Target.position += len(log.encode("utf-8", "replace"))
    if "Traceback" in log or HARMFUL.search(log):
        faults.append(f"the log has {log[-600:]!a}")
    after, memory = usage(server.process.pid)
    if after - before > PROCESSOR_S:
        faults.append(f"the server used {after - before:.1f} s of processor time")
    if memory > MEMORY:
        faults.append(f"the server has {memory / 2**20:.0f} MiB")
    if faults:
        start()
        raise AssertionError("; ".join(faults))
    reason = re.search(rb'"error":"([^"]*)', answer)
    said = template(reason[1].decode("utf-8", "replace")) if reason else ""
    words = f"status {' '.join(map(str, sorted(set(statuses)))) or 'none'} {said}"
    return words if 200 in statuses else Declined(words)


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


def usage(pid: int) -> tuple[float, int]:
    """Processor seconds and resident bytes of a process and its children; zeros where the system does not tell."""
    seconds, memory = 0.0, 0
    waiting = [pid]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            waiting += map(int, (place / "task" / place.name / "children").read_text().split())
        except OSError:
            continue
        seconds += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # with children that have ended
        memory += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return seconds, memory


REQUESTS = Kind(build, {"send": _send}, prepare=prepare, close=close, network="allowed")
