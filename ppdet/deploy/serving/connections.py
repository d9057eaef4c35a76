"""Connections: uvicorn's protocol for HTTP/1.1, with limits on what a client may make the server do and wait for.

uvicorn has no time limit for a request's head and no limit of connections per address, and reads the rest of a request
that it has answered already. Hypercorn's time limit starts anew with every byte, and it does not limit connections;
Granian has a time limit for heads, but no limit per address, and runs applications in processes of its own.
"""

import asyncio
import contextlib
import ipaddress
import json
import time
from collections import Counter
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.notices import Notices
from ppdet.deploy.serving.prometheus import Metrics

# Longest time from the opening of a connection, or from the first byte of a further request, to the end of its head.
HEAD_S = 15.0
LARGEST_HEAD = 16 * 1024
LONGEST_TARGET = 4096
MOST_HEADERS = 100
# A body may come in this many chunks, and in one more for each 512 bytes: the parser has much to do at each chunk.
FREE_CHUNKS = 1024
BYTES_PER_CHUNK = 512
# The parser gets this many bytes at once, so that it never has much to do.
SLICE = 8192
# A client that has not sent all of its request when it is answered has this time to take the answer. What it sends
# until then is thrown away; if the connection was closed instead, the client's system could throw the answer away.
LINGER_S = 2.0
LINGER_BYTES = 4 * 2**20
# In each WRITE_S, a client must take as much of an answer as WRITE_SPEED (bytes per second) says, and all of the answer
# within LONGEST_WRITE_S: 20 MiB at 0.6 Mbit/s.
WRITE_S = 30.0
WRITE_SPEED = 16 * 1024
LONGEST_WRITE_S = 300.0
Failure = tuple[int, str]  # the status of an answer, and its one line
NO_HTTP = 400, "this is no valid request in HTTP/1.1"
TWO_ENDS = 400, "the request has both Content-Length and Transfer-Encoding"
SMALL_CHUNKS = 400, f"the request has more than {FREE_CHUNKS} chunks of less than {BYTES_PER_CHUNK} bytes"
LATE = 408, f"no complete request head arrived within {HEAD_S:g} s"
LONG_TARGET = 414, f"the path and query have more than {LONGEST_TARGET} bytes"
LARGE = 431, f"the head of the request has more than {LARGEST_HEAD} bytes or {MOST_HEADERS} headers"
NO_ENCODING = 501, "this transfer encoding is not known"
CROWDED = 503, "too many connections"
BY_STATUS = {431: LARGE, 501: NO_ENCODING}  # of the mistakes that h11 finds; all others are NO_HTTP


class Connections:
    """All connections of a server; it decides which ones may stay.

    If there is no room for a further connection, the one for whose client the server has waited longest is closed in
    favor of it. So connections that do nothing take no room from clients that have something to ask.
    """

    def __init__(self, settings: Settings, metrics: Metrics, notices: Notices) -> None:
        self.settings = settings
        self.metrics = metrics
        self.notices = notices
        self.all: dict[Connection, str] = {}
        self.per_address: Counter[str] = Counter()
        metrics.connections.set_function(lambda: len(self.all))

    def add(self, connection: "Connection") -> bool:
        """Add a connection if there is room for it, or if room can be made; return whether it was added."""
        address = group(connection.client[0] if connection.client else "")
        most = self.settings.max_connections_per_address
        if self.per_address[address] >= most and not self.make_room(f"more than {most} from one address", address):
            return False
        most = self.settings.max_connections
        if len(self.all) >= most and not self.make_room(f"more than {most} in all", None):
            return False
        self.all[connection] = address
        self.per_address[address] += 1
        return True

    def make_room(self, reason: str, address: str | None) -> bool:
        found = [one for one, its in self.all.items() if one.replaceable and address in (None, its)]
        if not found:
            self.metrics.refused.inc()
            self.notices.tell("connections refused: " + reason)
            return False
        min(found, key=lambda one: one.since).end(reason)
        return True

    def remove(self, connection: "Connection") -> None:
        address = self.all.pop(connection, None)
        if address is not None:
            self.per_address[address] -= 1
            if not self.per_address[address]:
                del self.per_address[address]

    def sweep(self) -> None:
        """Close the connections that have used up their time; called once per second."""
        now = time.monotonic()
        for connection in list(self.all):
            connection.check_time(now)
        self.notices.flush()


def group(address: str) -> str:
    """What counts as one address: of IPv6, the 64 bits of a network, since whoever has one has all addresses in it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


class Parser(h11.Connection):
    """A parser that keeps what is wrong with a request in `failure`, and then reads nothing more."""

    failure: Failure | None = None
    chunks = received = 0

    def next_event(self) -> Any:
        if self.failure is not None:
            return h11.NEED_DATA
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            self.failure = BY_STATUS.get(error.error_status_hint, NO_HTTP)
            return h11.NEED_DATA
        if isinstance(event, h11.Request):
            self.chunks = self.received = 0
            self.failure = mistake(event)
        elif isinstance(event, h11.Data):
            self.chunks += event.chunk_start
            self.received += len(event.data)
            if self.chunks > FREE_CHUNKS + self.received // BYTES_PER_CHUNK:
                self.failure = SMALL_CHUNKS
        return event if self.failure is None else h11.NEED_DATA


def mistake(request: h11.Request) -> Failure | None:
    """The failure of a request whose head is too large, or does not say clearly where the request ends."""
    names = [name for name, _ in request.headers]
    if len(request.target) > LONGEST_TARGET:
        return LONG_TARGET
    if len(names) > MOST_HEADERS or sum(len(name) + len(value) for name, value in request.headers) > LARGEST_HEAD:
        return LARGE
    return TWO_ENDS if b"content-length" in names and b"transfer-encoding" in names else None


class Transport:
    """A connection's transport, of which `close` lets the client take the answer first if it is still sending."""

    def __init__(self, transport: asyncio.Transport, connection: "Connection") -> None:
        self.real = transport
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def write(self, data: bytes) -> None:
        self.connection.written += len(data)
        self.real.write(data)

    def is_closing(self) -> bool:
        return self.connection.lingering or self.real.is_closing()

    def close(self) -> None:
        self.connection.close()


class Connection(H11Protocol):
    """One connection.

    Attributes:
        since: when it was opened, answered its last request, or got the first byte of the next one.
        begun: a request has begun, and its head is not complete.
        lingering: the last answer is written, and what the client still sends is thrown away.
        written: bytes of all answers so far.
        written_until: when the client must have taken `must_take` bytes of these; None if nothing waited for it at the
            last check.
        answering_since: when the client was first seen not to have taken an answer; None between answers.
    """

    def __init__(self, *arguments: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn: Parser = Parser(h11.SERVER, LARGEST_HEAD)
        self.mine = connections
        self.since = time.monotonic()
        self.begun = True
        self.lingering = self.lost = False
        self.thrown_away = 0
        self.written = self.must_take = 0
        self.written_until: float | None = None
        self.answering_since: float | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether the server waits for the client, and has no request of it to answer."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def replaceable(self) -> bool:
        """Whether the server waits for the client: for a request, or until it has taken an answer."""
        return self.waiting or self.written_until is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.real = transport
        super().connection_made(Transport(transport, self))  # type: ignore[arg-type]
        if not self.mine.add(self):
            self.transport.write(plain_answer(*CROWDED))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.mine.remove(self)
        self._unset_keepalive_if_required()
        if self.timer is not None:
            self.timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.waiting and not self.begun:
            self.begun, self.since = True, time.monotonic()
        for start in range(0, len(data), SLICE):
            if self.transport.is_closing():
                self.thrown_away += len(data) - start
                if self.thrown_away > LINGER_BYTES:
                    self.transport.abort()
                return
            super().data_received(data[start : start + SLICE])

    def handle_events(self) -> None:
        super().handle_events()
        if not self.waiting:
            self.begun = False
            self.scope["state"]["abort"] = self.end  # for the application, which begins later
        if self.conn.failure is not None and not self.transport.is_closing():
            self.refuse(*self.conn.failure)

    def on_response_complete(self) -> None:
        self.since = time.monotonic()
        self.begun = bool(self.conn.trailing_data[0])
        self.answering_since = None
        super().on_response_complete()

    def refuse(self, status: int, reason: str) -> None:
        """Answer a request that the application has not seen, or not all of, and close the connection."""
        self.mine.metrics.requests.labels("other", str(status)).inc()
        self.mine.notices.tell("requests refused: " + reason)
        if self.waiting or not self.cycle.response_started:
            self.transport.write(plain_answer(status, reason))
        if not self.waiting:  # the application learns that there is nobody who waits for its answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.close()

    def close(self) -> None:
        unread = self.conn.failure is not None or self.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if self.lost or not unread or self.transport.is_closing():
            self.real.close()
        elif not self.lingering:
            self.lingering = True
            self.flow.resume_reading()
            self.timer = self.loop.call_later(LINGER_S, self.transport.abort)
            try:
                self.transport.write_eof()
            except OSError:  # the client is gone already
                self.transport.abort()

    def end(self, reason: str) -> None:
        """Close the connection without an answer."""
        self.mine.metrics.closed.inc()
        self.mine.notices.tell("connections closed: " + reason)
        self.mine.remove(self)
        self.transport.abort()

    def check_time(self, now: float) -> None:
        if not self._takes_in_time(now):
            self.end("the client did not take its answer in time")
            return
        if self.waiting and self.begun and now - self.since > HEAD_S and not self.transport.is_closing():
            self.conn.failure = LATE
            self.refuse(*LATE)

    def _takes_in_time(self, now: float) -> bool:
        """Whether the client takes what is written fast enough; it may be written in pieces."""
        taken = self.written - self.transport.get_write_buffer_size()
        if taken == self.written:
            self.written_until = None
            return True
        if self.written_until is None or taken >= self.must_take:
            self.written_until, self.must_take = now + WRITE_S, taken + int(WRITE_S * WRITE_SPEED)
        if self.answering_since is None:
            self.answering_since = now
        return now <= min(self.written_until, self.answering_since + LONGEST_WRITE_S)

    def _unsupported_upgrade_warning(self) -> None:
        """A request to speak another protocol is answered as if it did not ask for that; no line in the log for it."""

    def shutdown(self) -> None:
        if self.lingering:
            self.transport.abort()
        else:
            with contextlib.suppress(h11.LocalProtocolError):
                super().shutdown()


def plain_answer(status: int, reason: str) -> bytes:
    """The bytes of an answer without the application."""
    content = json.dumps({"error": reason}).encode()
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "Connection: close", "", ""]).encode() + content
