"""Noticing that another rank is gone.

Paddle's launcher watches only the processes of its own machine. Ranks on other machines would wait for a dead rank
until a collective operation times out (half an hour with NCCL), and would not learn the cause. So every rank keeps a
TCP connection to rank 0. The operating system closes it when the process ends, however it ends, and TCP keep-alive
notices a machine that does not answer. Nothing is sent during training, so steps cost nothing, and a slow rank is not
mistaken for a dead one.
"""

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
import weakref
from typing import Any, NamedTuple, NoReturn

from ppdet.utils.errors import UserError
from ppdet.utils.logger import write_last_line
from ppdet.utils.process.stop import exit_now

SILENT_SECONDS = 30  # a machine that does not answer for longer counts as lost
JOIN_SECONDS = 60  # all ranks have to connect within this time
GRACE_SECONDS = 1.0  # time for this rank to end by itself after another rank was lost
LINGER_SECONDS = 5.0  # a failed rank stays alive that long, so that rank 0 prints the cause before the launcher ends it
CHECK_SECONDS = 1.0  # between two checks whether the launcher is still alive
EXIT_CODE = 2


class RankLostError(UserError, RuntimeError):
    """Another rank of the job has ended. The message names the rank, its machine and the cause."""


class Peer(NamedTuple):
    """The rank at the other end of a connection."""

    rank: int
    host: str
    process: int

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.process} on {self.host})"


class Watchdog:
    """Connects rank 0 with every other rank, and ends this process when another rank has ended early.

    Ranks send lines of JSON: {"at": n} when they reach `meet` for the n-th time, {"end": true} when they have
    finished, {"failed": cause} before they end because of an error; rank 0 sends {"lost": message} about a lost rank
    to all others. When a rank is lost, a message that names it is written at once; then this process has a second to
    end by itself.

    Args:
        rank, world_size: the number of this process, and the number of processes.
        token: a secret of the job; connections that do not send it are refused.
        server: a listening socket, on rank 0.
        address: host and port of that socket, on the other ranks.
        join_seconds: time within which all ranks have to connect.

    Raises:
        RankLostError: a rank did not connect in time.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        *,
        token: str,
        server: socket.socket | None = None,
        address: tuple[str, int] | None = None,
        join_seconds: float = JOIN_SECONDS,
    ) -> None:
        self.rank = rank
        self.me = Peer(rank, socket.gethostname(), os.getpid())
        self.peers: dict[socket.socket, Peer] = {}
        self.launcher = os.getppid()
        self.news: str | None = None  # what is known of the first rank that was lost
        self.announced = False  # whether `news` has been written
        self.closing = threading.Event()  # set when this rank ends, with or without an error
        self.changed = threading.Condition()  # notified of every message and every closed connection
        self.meetings = 0  # calls of `meet` by this rank
        self.met: dict[int, int] = {}  # by peer: the last meeting that it reached; rank 0 reaches it last
        self.ended: set[int] = set()  # peers that have finished
        self._unread: dict[socket.socket, bytes] = {}  # beginnings of lines
        if server is not None:
            self._accept(server, world_size, token, join_seconds)
        elif address is not None:
            connection = socket.create_connection(address, timeout=join_seconds)
            hello = read_line(connection, join_seconds)
            send(connection, {"token": token, "peer": self.me})
            self._add(connection, Peer(*hello["peer"]))
        _watchdogs.add(self)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _accept(self, server: socket.socket, world_size: int, token: str, seconds: float) -> None:
        """Accept connections until all other ranks are connected."""
        deadline = time.monotonic() + seconds
        with server:
            while len(self.peers) < world_size - 1:
                try:
                    server.settimeout(max(0.01, deadline - time.monotonic()))
                    connection, _ = server.accept()
                    send(connection, {"peer": self.me})
                    hello = read_line(connection, 5)
                except (OSError, ValueError):
                    if time.monotonic() < deadline:
                        continue
                    missing = sorted(set(range(1, world_size)) - set(self.met))
                    ranks = ", ".join(map(str, missing))
                    raise RankLostError(f"rank {ranks} did not connect to rank 0 within {seconds:.0f} s") from None
                if hello.get("token") == token:
                    self._add(connection, Peer(*hello["peer"]))
                else:
                    connection.close()

    def _add(self, connection: socket.socket, peer: Peer) -> None:
        connection.settimeout(None)
        keep_alive(connection)
        self.peers[connection] = peer
        self._unread[connection] = b""
        self.met[peer.rank] = 0

    def meet(self) -> None:
        """Wait without a time limit until every rank has called this as often as this rank.

        Raises:
            RankLostError: a rank will never call it.
        """
        with self.changed:
            self.meetings += 1
            if self.rank != 0:
                self._send_to_peers({"at": self.meetings})
            self.changed.wait_for(lambda: self.news or self._absent() is not None or self._have_met())
            if not self._have_met():
                raise RankLostError(self.news or f"rank {self._absent()} has ended before the others")
            if self.rank == 0:
                self._send_to_peers({"at": self.meetings})

    def _have_met(self) -> bool:
        return min(self.met.values()) >= self.meetings

    def _absent(self) -> int | None:
        """A rank that finished before it reached the current meeting."""
        return next((rank for rank in self.ended if self.met[rank] < self.meetings), None)

    def finished(self) -> None:
        """Tell the other ranks that this one has done its work, so that the end of its process is no failure."""
        self.closing.set()
        with self.changed:
            self._send_to_peers({"end": True})

    def failed(self, cause: str, *, patience: float = 0.0) -> str | None:
        """Tell the other ranks that this one ends because of an error, unless another rank was lost before.

        Args:
            cause: one line.
            patience: seconds to wait first for news of a lost rank, whose loss may have caused the error.

        Returns:
            The news of a rank that was lost before, None if there is no such rank.
        """
        self.closing.set()
        with self.changed:
            self.changed.wait_for(lambda: self.news is not None, timeout=patience)
            news = self.news
            if news is None and self.rank == 0:
                self._send_to_peers({"lost": f"{self.me} ended: {cause}"})
            elif news is None:
                self._send_to_peers({"failed": cause})
                self.changed.wait_for(lambda: not self.peers, timeout=LINGER_SECONDS)
            return news

    def announces_news(self, patience: float) -> bool:
        """Wait up to `patience` seconds for news of a lost rank, and announce them. Returns whether there are any."""
        with self.changed:
            if self.changed.wait_for(lambda: self.news is not None, timeout=patience):
                self.announce(str(self.news))
            return self.announced

    def announce(self, news: str) -> None:
        """Write on the terminal and in the run's log, once, that this process ends because of a lost rank."""
        with self.changed:
            if not self.announced:
                write_last_line(news)
                self.announced = True

    def leave(self, news: str) -> NoReturn:
        """Announce the news and end this process at once.

        Paddle might otherwise wait for the lost rank, and the launcher's SIGTERM would change the exit code.
        """
        self.announce(news)
        exit_now(EXIT_CODE)

    def _watch(self) -> None:
        """The watchdog's thread."""
        while True:
            connections = list(self.peers)
            if connections:
                for connection in select.select(connections, [], [], CHECK_SECONDS)[0]:
                    self._read(connection)
            else:  # Windows refuses to select from nothing
                time.sleep(CHECK_SECONDS)
            if self.launcher and os.getppid() != self.launcher:
                self.launcher = 0
                os.write(2, b"\nthe launcher is gone: this process stops as on SIGTERM\n")
                os.kill(os.getpid(), signal.SIGTERM)
            if self.news is not None and not self.closing.is_set():
                self.announce(self.news)
                # The main thread may be in a collective operation, which nothing interrupts.
                if not self.closing.wait(GRACE_SECONDS):
                    os._exit(EXIT_CODE)

    def _read(self, connection: socket.socket) -> None:
        """Read what has arrived on a connection, and handle each complete line."""
        peer = self.peers[connection]
        with self.changed:
            why = "is gone: it was killed, or its machine went down"
            try:
                data = connection.recv(4096)
            except OSError as error:
                data, why = b"", f"is gone: {error.strerror}"
            *lines, self._unread[connection] = (self._unread[connection] + data).split(b"\n")
            for line in lines:
                self._handle(peer, json.loads(line))
            if not data:
                del self.peers[connection]
                connection.close()
                if peer.rank not in self.ended:
                    self._set_news(f"{peer} {why}")
            self.changed.notify_all()

    def _handle(self, peer: Peer, message: dict[str, Any]) -> None:
        if "at" in message:
            self.met[peer.rank] = message["at"]
        elif "end" in message:
            self.ended.add(peer.rank)
        elif "failed" in message:
            self._set_news(f"{peer} ended: {message['failed']}")
        elif "lost" in message:
            self._set_news(message["lost"])

    def _set_news(self, news: str) -> None:
        """Keep the news of the first lost rank; rank 0 passes them on."""
        if self.news is None:
            self.news = news
            if self.rank == 0:
                self._send_to_peers({"lost": news})

    def _send_to_peers(self, message: dict[str, Any]) -> None:
        for connection in self.peers:
            send(connection, message)


def listen(host: str) -> socket.socket:
    """Return a socket that listens on a free port of this machine's address `host`."""
    return socket.create_server((host, 0))


def keep_alive(connection: socket.socket) -> None:
    """Let the operating system close a connection whose other end has not answered for SILENT_SECONDS."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    third, milliseconds = SILENT_SECONDS // 3, SILENT_SECONDS * 1000
    options = {"TCP_KEEPIDLE": third, "TCP_KEEPINTVL": third, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": milliseconds}
    for name, value in options.items():
        if hasattr(socket, name):  # Linux has all of them, other systems some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send a message; a closed connection is noticed by the thread that reads from it."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def read_line(connection: socket.socket, seconds: float) -> dict[str, Any]:
    """Return the first message that arrives within `seconds`, at most 4096 bytes.

    Raises:
        OSError: nothing arrived.
        ValueError: what arrived is not a message.
    """
    connection.settimeout(seconds)
    line = b""
    while not line.endswith(b"\n") and len(line) < 4096:
        byte = connection.recv(1)
        if not byte:
            raise ConnectionError("closed")
        line += byte
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not a message")
    return message


_watchdogs: "weakref.WeakSet[Watchdog]" = weakref.WeakSet()


def _close_in_child() -> None:
    """Close the connections in a forked data worker; it would keep them open when this process is killed."""
    for watchdog in list(_watchdogs):
        for connection in watchdog.peers:
            connection.close()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_in_child)
