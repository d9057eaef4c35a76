"""Connections of clients that send slowly, endlessly, wrongly, or not at all, over real sockets."""

import asyncio
import json
import logging
import socket
import struct
from contextlib import asynccontextmanager

import h11
import pytest
from patience import PATIENCE

from ppdet.deploy.serving import connections as module
from ppdet.deploy.serving.connections import Connection, Connections, group
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.notices import Notices
from ppdet.deploy.serving.prometheus import Metrics

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn")
GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def application(scope, receive, send):
    """Answer with the size of the request's body; at /unread with 401 before reading it; at /large with 40 MB."""
    size, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    status = 200 if scope["path"] != "/unread" else 401
    content = b"x" * 40_000_000 if scope["path"] == "/large" else str(size).encode()
    headers = [(b"content-length", str(len(content)).encode())]
    if status == 401:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class Server:
    """A listening server of this application, and what it notes."""

    def __init__(self, **settings):
        self.lines = []
        logger = logging.Logger("connections")
        logger.addHandler(handler := logging.Handler())
        handler.emit = lambda record: self.lines.append(record.getMessage())
        self.metrics = Metrics()
        self.connections = Connections(Settings(**settings), self.metrics, Notices(logger))

    @asynccontextmanager
    async def running(self):
        config = uvicorn.Config(application, lifespan="off", ws="none", log_config=None, access_log=False)
        config.load()
        state = uvicorn.server.ServerState()
        loop = asyncio.get_running_loop()
        options = {"config": config, "server_state": state, "app_state": {}, "connections": self.connections}
        listening = await loop.create_server(lambda: Connection(**options), "127.0.0.1", 0)
        self.address = listening.sockets[0].getsockname()
        yield self
        listening.close()
        for connection in list(self.connections.all):
            connection.transport.abort()
        await self.until(lambda: not self.connections.all)

    async def until(self, condition):
        async def wait():
            while not condition():
                await asyncio.sleep(0.005)

        await asyncio.wait_for(wait(), PATIENCE)

    async def open(self, data=b""):
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(data)
        return reader, writer

    async def ask(self, data):
        """Everything that comes back until the server closes: the statuses, and the last content as text."""
        reader, writer = await self.open(data)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
        return [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]], answer.rpartition(b"\r\n\r\n")[2]


def run(test, **settings):
    async def main():
        async with Server(**settings).running() as server:
            await test(server)

    asyncio.run(main())


def chunks(number, size):
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + (b"%x\r\n" % size + b"x" * size + b"\r\n") * number


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (chunks(50_000, 1), 400, "chunks"),
        (chunks(50_000, 100), 400, "chunks"),
        (POST + b"a: b\r\n" * 101 + b"\r\n", 431, "100 headers"),
        (POST + b"a: b\r\n" * 50_000, 431, "16384 bytes"),
        (POST + b"a: " + b"b" * 2**20, 431, "16384 bytes"),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 414, "4096 bytes"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 50_000, 431, "16384 bytes"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "both"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, "no valid request"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "transfer encoding"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxyz", 400, "no valid request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "no valid request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "no valid request"),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no valid request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "no valid request"),
        (b"\r\n" * 50_000, 400, "no valid request"),
    ],
)
def test_requests_that_break_a_limit(request_, status, reason):
    async def test(server):
        statuses, content = await server.ask(request_)
        assert statuses == [status] and reason in json.loads(content)["error"]
        server.connections.sweep()
        assert [line for line in server.lines if reason in line] == server.lines and len(server.lines) == 1
        value = server.metrics.registry.get_sample_value
        assert value("ppdet_http_requests_total", {"path": "other", "status": str(status)}) == 1
        assert (await server.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))[0] == [200]

    run(test)


def test_honest_requests_are_read():
    async def test(server):
        close = b"Connection: close\r\n"
        assert await server.ask(chunks(1000, 1).replace(POST, POST + close) + b"0\r\n\r\n") == ([200], b"1000")
        assert await server.ask(chunks(20, 100_000).replace(POST, POST + close) + b"0\r\n\r\n") == ([200], b"2000000")
        assert await server.ask(POST + close + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000) == ([200], b"300000")
        assert await server.ask(GET * 50 + GET.replace(b"\r\n\r\n", b"\r\n" + close + b"\r\n")) == ([200] * 51, b"0")
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
        assert await server.ask(GET[:-2] + upgrade) == ([200], b"0")
        server.connections.sweep()
        assert server.lines == []

    run(test)


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", GET + b"GET /"])
def test_half_a_request_has_an_end(monkeypatch, begun):
    async def test(server):
        reader, _ = await server.open(begun)
        await server.until(lambda: server.connections.all and all(one.begun for one in server.connections.all))
        server.connections.sweep()
        assert len(server.connections.all) == 1  # within its time
        monkeypatch.setattr(module, "HEAD_S", -1.0)
        server.connections.sweep()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer.count(b"HTTP/1.1 ") == 1 + begun.startswith(GET) and b"HTTP/1.1 408 Request Timeout" in answer
        assert server.lines == ["1 requests refused: no complete request head arrived within 15 s"]

    run(test)


def test_connections_that_ask_for_nothing_make_room():
    """Of 40 connections three stay, and a client of the same address is answered all the while."""

    async def test(server):
        opened = []
        for _ in range(40):
            opened.append(await server.open(b"GET /"))
            await server.until(lambda: len(server.connections.all) == min(len(opened), 3))
            assert (await server.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))[0] == [200]
        server.connections.sweep()
        assert server.lines == ["38 connections closed: more than 3 " + kind]
        assert server.metrics.registry.get_sample_value("ppdet_connections_closed_total") == 38

    kind = "from one address"
    run(test, max_connections_per_address=3)
    kind = "in all"
    run(test, max_connections=3)


def test_connections_with_a_request_stay():
    """All places are taken by requests that the server has begun to read: the next connection is refused."""

    async def test(server):
        opened = [await server.open(POST + b"Content-Length: 5\r\n\r\nab") for _ in range(3)]
        await server.until(lambda: sum(not one.waiting for one in server.connections.all) == 3)
        statuses, content = await server.ask(b"")
        assert statuses == [503] and json.loads(content) == {"error": "too many connections"}
        for reader, writer in opened:
            writer.write(b"cde")
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n5"), PATIENCE)).startswith(b"HTTP/1.1 200")
        server.connections.sweep()
        assert server.lines == ["1 connections refused: more than 3 in all"]

    run(test, max_connections=3)


def test_the_rest_of_a_request_is_not_awaited(monkeypatch):
    """The client gets the answer although it still sends, and the connection ends."""
    monkeypatch.setattr(module, "LINGER_S", PATIENCE)
    head = b"POST /unread HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000000\r\n\r\n"

    async def test(server):
        reader, writer = await server.open(head + b"x" * 100_000)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer.startswith(b"HTTP/1.1 401") and len(server.connections.all) == 1
        with pytest.raises(OSError):
            while True:  # far less than the 30 MB that were announced
                writer.write(b"x" * 100_000)
                await writer.drain()
                await asyncio.sleep(0)
        await server.until(lambda: not server.connections.all)
        assert next(iter(closed)).thrown_away < module.LINGER_BYTES + 2**20

    closed = set()
    before = Connections.remove
    monkeypatch.setattr(Connections, "remove", lambda self, one: closed.add(one) or before(self, one))
    run(test)


def test_a_client_that_does_not_send_on_is_left(monkeypatch):
    monkeypatch.setattr(module, "LINGER_S", 0.01)
    head = b"POST /unread HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 30000000\r\n\r\n"

    async def test(server):
        reader, _ = await server.open(head)
        with pytest.raises(ConnectionResetError):
            while data := await reader.read(10_000):
                assert b"401" in data
            await server.until(lambda: not server.connections.all)
            raise ConnectionResetError  # the end came first, and the reset is not seen any more

    run(test)


def test_answers_that_nobody_takes():
    """The connection may be replaced at once, and ends when its time is over, however large the answer is."""

    async def test(server):
        connection = socket.create_connection(server.address)
        connection.sendall(GET.replace(b"GET /", b"GET /large"))
        await server.until(lambda: any(one.transport.get_write_buffer_size() for one in server.connections.all))
        (one,) = server.connections.all
        for seconds in (0, 1, 29):
            one.check_time(1e9 + seconds)
            assert one.replaceable and not server.connections.notices.counts
        one.check_time(1e9 + 31)
        await server.until(lambda: not server.connections.all)
        server.connections.sweep()
        assert server.lines == ["1 connections closed: the client did not take its answer in time"]
        connection.close()

    run(test)


@pytest.mark.parametrize(("each_minute", "minutes"), [(15, None), (1, 5), (0.1, 0.5)])
def test_answers_that_are_taken_slowly(monkeypatch, each_minute, minutes):
    """Half a MiB each half minute is enough for the next one, and five minutes are enough for all."""
    mib = 2**20

    async def test(server):
        _, writer = await server.open()
        await server.until(lambda: server.connections.all)
        (one,) = server.connections.all
        one.begun = False
        one.written = pending = 20 * mib
        monkeypatch.setattr(one.transport, "get_write_buffer_size", lambda: max(0, int(pending)), raising=False)
        second, ended = 0, None
        while ended is None and pending > 0:
            one.check_time(1e9 + second)
            ended = second if server.connections.notices.counts else None
            second += 1
            pending -= each_minute / 60 * mib
        assert ended is None if minutes is None else ended == minutes * 60 + 1
        writer.close()

    run(test)


def test_clients_that_reset_their_connections():
    async def test(server):
        for begun in (b"", b"GET /", GET, GET * 5, POST + b"Content-Length: 5\r\n\r\nab", b"\0\r\n\r\n"):
            for _ in range(5):
                connection = socket.create_connection(server.address)
                connection.sendall(begun)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
        assert (await server.ask(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))[0] == [200]
        await server.until(lambda: not server.connections.all)
        assert not server.connections.per_address

    run(test)


def test_addresses_of_one_network_count_as_one():
    assert group("192.0.2.7") == "192.0.2.7" and group("::ffff:192.0.2.7") == "192.0.2.7"
    assert group("2001:db8:1:2::1") == group("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert group("fe80::1%eth0") == "fe80::/64" and group("") == ""


def test_the_parser_gets_little_at_once(monkeypatch):
    """What a client sends in one go is parsed in slices, so that a head ends soon after its limit."""
    largest = []
    receive = h11.Connection.receive_data

    def noted(self, data):
        largest.append(len(data))
        return receive(self, data)

    monkeypatch.setattr(h11.Connection, "receive_data", noted)

    async def test(server):
        assert (await server.ask(POST + b"a: b\r\n" * 200_000))[0] == [431]
        assert max(largest) <= 8192 and sum(largest) < 50_000

    run(test)
