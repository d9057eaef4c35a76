"""Middleware of every request: checks the token, adds security headers to answers, and counts them."""

import hmac
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from ppdet.deploy.serving.service import Service

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# The page may load scripts and styles of this server only, it may use the camera, and no page may embed it.
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
    """ASGI middleware around the whole application, so that it sees the answers to failures too.

    Args:
        app: the application that requests are passed on to.
        open_paths: paths that need no token.
        known_paths: paths that the metrics name; all others count as "other".
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

        async def send_checked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                if self.service.draining:
                    headers["Connection"] = "close"  # the client should open no further request on this connection
                self.service.metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        allowed = scope["path"] in self.open_paths or self.has_token(scope)
        await (self.app if allowed else answer_unauthorized)(scope, receive, send_checked)

    def has_token(self, scope: Message) -> bool:
        """Whether the request has the token, or none is needed. The comparison takes constant time."""
        if self.token is None:
            return True
        kind, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self.token.encode())
        return same and kind.lower() == "bearer"


async def answer_unauthorized(scope: Message, receive: Receive, send: Send) -> None:
    reason = "this server needs a token: send the header Authorization: Bearer TOKEN"
    response = JSONResponse({"error": reason}, 401, {"WWW-Authenticate": "Bearer"})
    await response(scope, receive, send)
