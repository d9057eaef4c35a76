"""Ranks that notice when another one is gone.

Paddle's launcher looks after the processes of its own machine only; those of other machines would wait for a dead rank
until the time limit of a collective operation, half an hour with NCCL, and then say nothing of the cause. Here every
rank keeps a connection to rank 0. The kernel closes it with the process, however that ends, and finds out by itself
when the other machine does not answer. Nothing is sent while all is well, so that a step costs nothing, and a rank that
is busy for long is not taken for dead.
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
from ppdet.utils.logger import say_last
from ppdet.utils.process.stop import end

SILENT_SECONDS = 30  # without an answer from a rank's machine
JOIN_SECONDS = 60  # for all ranks to connect
GRACE_SECONDS = 1.0  # for this rank to end by itself when another one is lost
LINGER_SECONDS = 5.0  # of a failed rank, so that rank 0's console has the cause before the launcher ends it
CHECK_SECONDS = 1.0  # between two looks at whether the launcher is still there
EXIT_CODE = 2


class RankLostError(UserError, RuntimeError):
    """Another rank of the job has ended; the message names it, its machine and the cause."""


class Peer(NamedTuple):
    """The other end of a connection."""

    rank: int
    host: str
    process: int

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.process} on {self.host})"


class Watchdog:
    """Connects rank 0 with every other rank, and ends this process when another rank has ended before its time.

    The line that says which one is written at once; then this rank has a second to end by itself.

    Args:
        rank, world_size: of this process; at least two processes.
        server: on rank 0: a socket that listens. address: elsewhere: its (host, port).
        token: a secret of the job, without which nobody is let in.
        join_seconds: for all ranks to connect.

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
        self.news: str | None = None  # of the first rank that was lost
        self.announced = False
        self.closing = threading.Event()  # this rank ends, well or by an error of its own
        self.changed = threading.Condition()
        self.meetings = 0
        self.met: dict[int, int] = {}  # rank -> the last meeting it has come to, or rank 0 has closed
        self.ended: set[int] = set()
        self._unread: dict[socket.socket, bytes] = {}
        if server is not None:
            self._accept(server, world_size, token, join_seconds)
        else:
            connection = socket.create_connection(address, timeout=join_seconds)
            hello = read_line(connection, join_seconds)
            send(connection, {"token": token, "peer": self.me})
            self._add(connection, Peer(*hello["peer"]))
        _all.add(self)
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()

    def _accept(self, server: socket.socket, world_size: int, token: str, seconds: float) -> None:
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
                    present = {peer.rank for peer in self.peers.values()}
                    missing = ", ".join(str(r) for r in range(1, world_size) if r not in present)
                    raise RankLostError(f"rank {missing} did not connect to rank 0 within {seconds:.0f} s") from None
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
        """Go on when every rank has come here, however long that takes.

        Raises:
            RankLostError: one of them never will.
        """
        with self.changed:
            self.meetings += 1
            if self.rank != 0:
                self._tell({"at": self.meetings})
            self.changed.wait_for(lambda: self.news or self._absent() is not None or self._have_met())
            if not self._have_met():
                raise RankLostError(self.news or f"rank {self._absent()} has ended before the others")
            if self.rank == 0:
                self._tell({"at": self.meetings})

    def _have_met(self) -> bool:
        return min(self.met.values()) >= self.meetings

    def _absent(self) -> int | None:
        return next((rank for rank in self.ended if self.met[rank] < self.meetings), None)

    def finished(self) -> None:
        """This rank has done its work: that its process ends is no cause for alarm."""
        self.closing.set()
        with self.changed:
            self._tell({"end": True})

    def failed(self, why: str, *, patience: float = 0.0) -> str | None:
        """This rank ends because of an error. Tell the others, unless it is only an echo of another rank's end.

        Args:
            why: one line.
            patience: seconds to wait for news of a lost rank first, of which the error may be an echo.

        Returns:
            What is known of a rank that was lost before.
        """
        self.closing.set()
        with self.changed:
            self.changed.wait_for(lambda: self.news is not None, timeout=patience)
            news = self.news
            if news is None:
                key = "lost" if self.rank == 0 else "failed"
                self._tell({key: f"{self.me} ended: {why}" if self.rank == 0 else why})
                if self.rank != 0:
                    self.changed.wait_for(lambda: not self.peers, timeout=LINGER_SECONDS)
            return news

    def told(self, patience: float) -> bool:
        """Wait so many seconds for news of a lost rank, of which an error of this one may be an echo; announce them.

        Returns:
            Whether there are some.
        """
        with self.changed:
            if self.changed.wait_for(lambda: self.news is not None, timeout=patience):
                self.announce(self.news)
            return self.announced

    def announce(self, news: str) -> None:
        """Say on the terminal and in the run's log that this process ends because of a lost rank."""
        with self.changed:  # once
            if not self.announced:
                say_last(news)
                self.announced = True

    def leave(self, news: str) -> NoReturn:
        """End this process because of a lost rank, with the line that says so.

        At once, since Paddle might wait for that rank, and the launcher's SIGTERM would change the exit code.
        """
        self.announce(news)
        end(EXIT_CODE)

    def _watch(self) -> None:
        while True:
            readable, _, _ = select.select(list(self.peers), [], [], CHECK_SECONDS)
            for connection in readable:
                self._read(connection)
            if self.launcher and os.getppid() != self.launcher:
                self.launcher = 0
                os.write(2, b"\nthe launcher is gone: this process stops as on SIGTERM\n")
                os.kill(os.getpid(), signal.SIGTERM)
            if self.news is not None and not self.closing.is_set():
                self.announce(self.news)
                # The main thread may be in the middle of a collective operation, which nothing interrupts.
                if not self.closing.wait(GRACE_SECONDS):
                    os._exit(EXIT_CODE)

    def _read(self, connection: socket.socket) -> None:
        """Take what has come, in full lines."""
        peer = self.peers[connection]
        with self.changed:
            try:
                data = connection.recv(4096)
            except OSError as error:
                data, why = b"", f"is gone: {error.strerror}"
            else:
                why = "is gone: it was killed, or its machine went down"
            *lines, self._unread[connection] = (self._unread[connection] + data).split(b"\n")
            for line in lines:
                self._take(peer, json.loads(line))
            if not data:
                del self.peers[connection]
                connection.close()
                if peer.rank not in self.ended:
                    self._lost(f"{peer} {why}")
            self.changed.notify_all()

    def _take(self, peer: Peer, message: dict[str, Any]) -> None:
        if "at" in message:
            self.met[peer.rank] = message["at"]
        elif "end" in message:
            self.ended.add(peer.rank)
        elif "failed" in message:
            self._lost(f"{peer} ended: {message['failed']}")
        elif "lost" in message:
            self._lost(message["lost"])

    def _lost(self, news: str) -> None:
        if self.news is None:
            self.news = news
            if self.rank == 0:
                self._tell({"lost": news})

    def _tell(self, message: dict[str, Any]) -> None:
        for connection in self.peers:
            send(connection, message)


def listen(host: str) -> socket.socket:
    """A socket that listens on any free port of this machine's address `host`."""
    return socket.create_server((host, 0))


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel ask the other machine whether it is there, and close the connection when it is silent."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    third, milliseconds = SILENT_SECONDS // 3, SILENT_SECONDS * 1000
    options = {"TCP_KEEPIDLE": third, "TCP_KEEPINTVL": third, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": milliseconds}
    for name, value in options.items():
        if hasattr(socket, name):  # Linux has all of them, other systems some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    # That it is closed is found out by whoever reads from it.
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(message).encode() + b"\n")


def read_line(connection: socket.socket, seconds: float) -> dict[str, Any]:
    """The first line that comes, at most 4096 bytes.

    Raises:
        OSError: nothing came. ValueError: something else.
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


_all: "weakref.WeakSet[Watchdog]" = weakref.WeakSet()


def _close_in_child() -> None:
    """A data worker must not hold this process's connections open when it is killed."""
    for watchdog in list(_all):
        for connection in watchdog.peers:
            connection.close()


os.register_at_fork(after_in_child=_close_in_child)
