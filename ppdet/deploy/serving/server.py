"""Listening on a socket, and the graceful end: no request that the server has accepted is lost."""

import asyncio
import logging
import os
import signal
import socket
import time
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from ppdet.deploy.serving.app import create_app
from ppdet.deploy.serving.connections import Connection, Connections
from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.notices import Notices
from ppdet.deploy.serving.service import Service
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.stop import exit_now

logger = get_logger(__name__)

# Longer than proxies keep an idle connection. If the server closed it first, a request could be on its way.
KEEP_ALIVE_S = 75
# How long open connections without a request have at the end, for a request that is on its way.
LINGER_S = 2.0
ACCEPT_S = 0.05  # how long connections in the system's queue are still accepted at the end
BACKLOG = 256  # most connections in the system's queue
LEAST_CONNECTIONS = 16  # fewer are of no use
SPARE_DESCRIPTORS = 128  # for files, workers, and the system's queue, which is emptied before it is seen how long it is


class Server(uvicorn.Server):
    """uvicorn with a longer shutdown.

    uvicorn itself drops the connections in the system's queue, and open connections on which no request was read yet.
    Here, queued connections are accepted for ACCEPT_S, every answer says `Connection: close`, open connections have
    LINGER_S for a request, and every request that has begun is answered.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.notices = Notices(logger)
        self.connections = Connections(service.settings, service.metrics, self.notices)
        for handler in get_logger().handlers:
            logging.getLogger("uvicorn").addHandler(handler)
        for name in ("python_multipart", "multipart"):  # which would write a line for each broken form
            logging.getLogger(name).setLevel(logging.CRITICAL)
        super().__init__(
            uvicorn.Config(
                create_app(service, self.notices),
                http=partial(Connection, connections=self.connections),  # type: ignore[arg-type]
                backlog=BACKLOG,
                loop="asyncio",
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=int(service.settings.timeout_s) + 5,
            )
        )

    def run_on(self, listener: socket.socket) -> None:
        """Serve until SIGTERM or SIGINT, and return when all requests are answered. A second SIGINT ends it at once.

        Raises:
            DeployError: the model cannot be loaded, or cannot run.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn installs its own handlers while it runs. On exit it re-raises the signal for the ones installed
            # here, which must not take it for a second one.
            signal.signal(number, lambda sig, frame: None if self.started else self.handle_exit(sig, frame))
        try:
            self.run(sockets=[listener])
        finally:
            self.service.end_processes()
        if self.service.failure is not None:
            raise self.service.failure

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit and sig == signal.SIGINT:
            self.service.end_processes()
            exit_now(128 + sig)
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # about once per second
            self.connections.sweep()
        return await super().on_tick(counter) or self.service.failure is not None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self.on_loop_error)
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Without descriptors for new connections, asyncio waits a second, and writes a traceback that says no more."""
        if isinstance(context.get("exception"), OSError) and "accept" in context.get("message", ""):
            self.notices.tell("times no connection could be accepted: too many open files")
        else:
            loop.default_exception_handler(context)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.draining = True
        logger.info("ending: finishing %d requests", self.service.admitted)
        await asyncio.sleep(ACCEPT_S)
        for server in self.servers:
            server.close()
        end = time.monotonic() + LINGER_S
        while self.server_state.connections and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        logger.info("ended")


def serve_here(model: ServedModel, settings: Settings, host: str, port: int) -> None:
    """Serve with one process for all requests until SIGTERM or SIGINT; see `Server.run_on`."""
    listener = bound_socket(host, port)
    most = allow_connections(settings.max_connections)
    if most < settings.max_connections:
        logger.warning("the limit of open files (ulimit -n) allows %d connections only", most)
    Server(Service(model, replace(settings, max_connections=most))).run_on(listener)


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files for `wanted` connections, if need be; return how many are possible.

    Raises:
        DeployError: hardly any are.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return wanted
    needed = wanted + BACKLOG + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        room = soft - BACKLOG - SPARE_DESCRIPTORS
        if room < min(wanted, LEAST_CONNECTIONS):
            least = needed - wanted + min(wanted, LEAST_CONNECTIONS)
            raise DeployError(f"the limit of open files (ulimit -n) is {soft}, but the server needs {least} or more")
        wanted = min(wanted, room)
    return wanted


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address and does not listen yet. Port 0 chooses a free port.

    Raises:
        DeployError: the address is in use, or does not belong to this machine, or is none.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # asyncio sends at once (TCP_NODELAY) only on sockets that name their protocol. Otherwise, each further
        # answer on a connection waits for 40 ms, until the client acknowledges the headers.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if os.name == "posix":  # on Windows the option would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except UnicodeError:
        raise DeployError(f"cannot listen on {host[:80]!r}: this is no name of a host, and no address") from None
    except OSError as error:
        raise DeployError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return listener
