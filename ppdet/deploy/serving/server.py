"""Listening, and ending without losing a request."""

import asyncio
import ctypes
import logging
import signal
import socket
import struct
import sys
import time

import uvicorn

from ppdet.deploy.serving.app import create_app
from ppdet.deploy.serving.service import Service
from ppdet.utils.errors import DeployError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

# Longer than proxies keep theirs: the side that closes an idle connection may do so while a request is on its way.
KEEP_ALIVE_S = 75
# How long, at the end, connections that are open but silent have for a request that is on its way.
LINGER_S = 2.0
SO_ATTACH_FILTER = 26  # of Linux; Python's socket module does not have it


class Server(uvicorn.Server):
    """uvicorn, with an end that loses nothing.

    uvicorn itself drops, when it is told to end, the connections that the system has accepted and it has not, and those
    that are open and have not been read yet. Here, in this order: no new connection gets through; those in the queue
    are accepted; answers tell their clients that the connection ends with them; silent connections have LINGER_S for
    what may be on its way; what was begun is finished.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        for handler in get_logger().handlers:
            logging.getLogger("uvicorn").addHandler(handler)
        super().__init__(
            uvicorn.Config(
                create_app(service),
                http="h11",
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
        """Serve until SIGTERM or SIGINT (twice: at once), and return when all is answered.

        Raises:
            DeployError: the model cannot run.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn has its own while it runs, and raises the signal again at its end, for those before it.
            signal.signal(number, self.handle_exit)
        self.run(sockets=[listener])
        if self.service.failure is not None:
            raise DeployError(f"the model cannot run: {self.service.failure}") from self.service.failure

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.service.failure is not None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = sockets[0].getsockname()[:2]
        logger.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.draining = True
        logger.info("ending: finishing %d requests", self.service.admitted)
        for listener in sockets or []:
            refuse_connections(listener)
        # Meanwhile the loop accepts what was in the queue.
        await asyncio.sleep(0.05)
        for server in self.servers:
            server.close()
        end = time.monotonic() + LINGER_S
        while self.server_state.connections and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
        logger.info("ended")


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet. Port 0: any that is free.

    Raises:
        DeployError: the address is taken, or not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise DeployError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return listener


def refuse_connections(listener: socket.socket) -> None:
    """Have the system drop attempts to connect. They come again a second later, to a socket that is closed: refused.

    Closing a socket that listens resets what waits in its queue, and between the last accept and closing something may
    come in. A filter that takes no packet closes this gap, on Linux; elsewhere it remains, some microseconds long.
    """
    if sys.platform != "linux":
        return
    take_nothing = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0
    program = struct.pack("HP", 1, ctypes.addressof(take_nothing))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except OSError as error:
        logger.debug("no filter on the listening socket: %s", error)
