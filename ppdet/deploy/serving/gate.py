"""Middleware of every request: checks who asks, adds security headers to answers, and counts them."""

import hmac
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from ppdet.deploy.serving.hosts import check_host, check_origin
from ppdet.deploy.serving.limits import Refused
from ppdet.deploy.serving.notices import Notices
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
        notices: learns of refused requests.
    """

    def __init__(
        self,
        app: Any,
        service: Service,
        open_paths: Collection[str],
        known_paths: Collection[str],
        notices: Notices | None = None,
    ) -> None:
        self.app = app
        self.service = service
        self.open_paths = open_paths
        self.known_paths = known_paths
        self.notices = notices
        self.token = service.settings.token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = scope["path"] if scope["path"] in self.known_paths else "other"
        # Whether all of the request has been read. If it has not, the connection cannot have another request.
        complete = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"

        async def receive_watched() -> Message:
            nonlocal complete
            message = await receive()
            complete = complete or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        async def send_checked(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                added.update(SECURITY_HEADERS)
                if self.service.draining or not complete:
                    added["Connection"] = "close"
                self.service.metrics.requests.labels(path, str(message["status"])).inc()
                if self.notices is not None and message["status"] >= 400 and path != "/readyz":
                    self.notices.tell(refusal(message["status"]))
            await send(message)

        try:
            self.check(scope["method"], scope["path"], headers)
        except Refused as error:
            await error.response()(scope, receive, send_checked)
        else:
            await self.app(scope, receive_watched, send_checked)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Check all that can be checked before the body is read.

        Raises:
            Refused: another server was meant, a page of another server asks, or the token is missing.
        """
        settings = self.service.settings
        check_host(headers, settings.own_names | settings.trusted_hosts)
        check_origin(method, headers, settings.trusted_hosts)
        if path not in self.open_paths and not self.has_token(headers):
            reason = "this server needs a token: send the header Authorization: Bearer TOKEN"
            raise Refused(401, reason, {"WWW-Authenticate": "Bearer"})

    def has_token(self, headers: Headers) -> bool:
        """Whether the request has the token, or none is needed. The comparison takes constant time."""
        if self.token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), self.token.encode())
        return same and kind.lower() == "bearer"


def refusal(status: int) -> str:
    """What the log says about requests with this status; a few clients' statuses have no name."""
    names = {one.value: one.phrase for one in HTTPStatus}
    return f"requests refused: {status} {names.get(status, 'the client has closed the connection')}"
