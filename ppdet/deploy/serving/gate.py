"""What every request passes on its way in and out."""

import hmac
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from ppdet.deploy.serving.service import Service

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The page has scripts and styles of this server only; the camera is its own, and nobody may frame it.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Gate:
    """Checks the token, adds headers, counts answers, and ends connections while the server drains.

    Args:
        app: what to pass requests on to (ASGI).
        open_paths: those that need no token. known_paths: those that metrics name; others count as "other".
    """

    def __init__(self, app: Any, service: Service, open_paths: Collection[str], known_paths: Collection[str]) -> None:
        self.app = app
        self.service = service
        self.open_paths = open_paths
        self.known_paths = known_paths
        self.token = service.settings.token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.known_paths else "other"
        exchange = Exchange(self.service, path, receive, send)
        app = self.app if scope["path"] in self.open_paths or self.has_token(scope) else unauthorized
        await app(scope, exchange.receive, exchange.send)

    def has_token(self, scope: Message) -> bool:
        """Whether a request has the token, if one is needed. How long this takes tells nothing of the token."""
        if self.token is None:
            return True
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self.token.encode())
        return same and kind.lower() == "bearer"


class Exchange:
    """One request and its answer."""

    def __init__(self, service: Service, path: str, receive: Receive, send: Send) -> None:
        self.service = service
        self.path = path
        self.receive_next = receive
        self.send_next = send
        self.is_read = False

    async def receive(self) -> Message:
        message = await self.receive_next()
        self.is_read = self.is_read or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            if self.service.draining:
                # The client hears that this was the connection's last answer. What it is still sending has to be read
                # before the connection is closed: the system would tear it down, and the answer with it.
                headers["Connection"] = "close"
                await self.read_rest()
            self.service.metrics.requests.labels(self.path, str(message["status"])).inc()
        await self.send_next(message)

    async def read_rest(self) -> None:
        left = self.service.settings.max_body
        while not self.is_read and left > 0:
            left -= len((await self.receive()).get("body", b"")) or 1


async def unauthorized(scope: Message, receive: Receive, send: Send) -> None:
    reason = "this server needs a token: send the header Authorization: Bearer TOKEN"
    response = JSONResponse({"error": reason}, 401, {"WWW-Authenticate": "Bearer"})
    await response(scope, receive, send)
