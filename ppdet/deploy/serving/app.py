"""The HTTP application: its paths and their answers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ppdet.data.classes import category_id
from ppdet.deploy.serving.connections import group
from ppdet.deploy.serving.description import describe_model
from ppdet.deploy.serving.docs_page import docs_page
from ppdet.deploy.serving.gate import Gate, Message, Receive, Send
from ppdet.deploy.serving.limits import Refused, too_busy
from ppdet.deploy.serving.notices import Notices
from ppdet.deploy.serving.openapi import describe_paths
from ppdet.deploy.serving.places import Place
from ppdet.deploy.serving.request import PredictRequest, read_request
from ppdet.deploy.serving.service import Answer, Service
from ppdet.visualize.draw import LONGEST_SIDES

FOLDER = Path(__file__).parent
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/boxes.js": ("boxes.js", "text/javascript"),
    "/about.js": ("about.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
}
# Paths that need no token; they tell nothing about the model and its use. The metrics need it, since they tell about
# the traffic; Prometheus can send it.
OPEN_PATHS = {*PAGE, "/healthz", "/readyz", "/docs", "/openapi.json"}
KNOWN_PATHS = {*OPEN_PATHS, "/metrics", "/model", "/predict"}
PART = 64 * 1024  # bytes of an answer that are sent at once
MANY = 1000  # detections whose answer is written in another thread
CLIENT_GONE = 499  # nginx's status for a client that closed its connection; only the metrics see it


def create_app(service: Service, notices: Notices | None = None) -> Gate:
    """The ASGI application of a service, which starts and stops with the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # FastAPI's own page of documentation would load scripts from another server, which a server without internet and
    # the Content-Security-Policy forbid; docs_page.py writes a page without scripts.
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(Refused, answer_refused)
    app.add_exception_handler(HTTPException, answer_wrong_path)
    app.add_exception_handler(Exception, answer_failure)

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        if service.obstacle is not None:
            raise too_busy(service.obstacle)
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def model(request: Request) -> Response:
        return JSONResponse(describe_model(service))

    document = describe_paths(OPEN_PATHS, service.settings.token is not None)
    files = {path: ((FOLDER / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}
    files["/openapi.json"] = (json.dumps(document).encode(), "application/json")
    files["/docs"] = (docs_page(document), "text/html")
    app.router.add_route("/predict", Predict(service), methods=["POST"])
    # Starlette adds HEAD to GET; uvicorn sends only the head of the answer.
    for path, answer in {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics, "/model": model}.items():
        app.router.add_route(path, answer, methods=["GET"])
    for path, (content, media_type) in files.items():
        app.router.add_route(path, partial(answer_file, content=content, media_type=media_type), methods=["GET"])
    return Gate(app, service, OPEN_PATHS, KNOWN_PATHS, notices)


async def answer_file(request: Request, content: bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type)


class Predict:
    """The ASGI application of /predict. A request holds its place until its client has taken the answer."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.turn = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        with self.service.admission(group(client[0] if client else "")) as place:

            async def receive_counted() -> Message:
                message = await receive()
                place.move(len(message.get("body", b"")))
                if not message.get("more_body", False):
                    place.due = None
                return message

            response = await answer_predict(self.service, Request(scope, receive_counted), place, self.turn)
            abort = scope.get("state", {}).get("abort", lambda reason: None)
            give_up = partial(abort, "the client takes its answer slowly, and others wait for its place")
            self.service.places.start_sending(place, len(response.body), give_up)
            await send_parts(response, send, place)


async def send_parts(response: Response, send: Send, place: Place) -> None:
    """Send an answer in parts. The next one is sent when the client has taken most of the one before."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    body, size = response.body, len(response.body)
    for end in range(PART, size + PART, PART):
        if place.lost:
            return
        await send({"type": "http.response.body", "body": body[end - PART : end], "more_body": end < size})
        place.move(PART)
        place.unsent = max(0, size - end)


async def answer_predict(service: Service, request: Request, place: Place, turn: asyncio.Lock) -> Response:
    """Read a request to /predict and answer it within `timeout_s`.

    Raises:
        Refused: the request is wrong, or there is no time left for it, or another one got its place.
    """
    start = time.monotonic()
    metrics, settings = service.metrics, service.settings

    def crowded() -> bool:
        return service.admitted >= settings.max_queue

    with metrics.latency.time():
        with metrics.stage("read"):
            reading = asyncio.ensure_future(read_request(request, settings.max_body, crowded, turn))
            place.give_up = reading.cancel
            try:
                content = await asyncio.wait_for(reading, settings.timeout_s)
            except asyncio.TimeoutError:
                reason = f"the request did not arrive within {settings.timeout_s:g} s"
                raise Refused(408, reason) from None
            except ClientDisconnect:
                raise Refused(CLIENT_GONE, "the client has closed the connection") from None
            except asyncio.CancelledError:
                if not place.lost:
                    raise
                raise Refused(408, "the request arrives slowly, and others wait for its place") from None
        left = settings.timeout_s - (time.monotonic() - start)
        return await within(left, make_response(service, content, start), request)


async def within(seconds: float, work: Awaitable[Response], request: Request) -> Response:
    """Return the result of `work`, which is canceled if it takes longer or the client closes its connection.

    Raises:
        Refused: the work was canceled.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise Refused(CLIENT_GONE, "the client has closed the connection")
        raise Refused(504, "timed out before detection: send fewer requests at once, or a smaller image")
    finally:
        task.cancel()
        gone.cancel()


async def make_response(service: Service, request: PredictRequest, start: float) -> Response:
    answer = await service.detect(request.image)
    threshold = service.thresholds if request.threshold is None else request.threshold
    answer = answer._replace(detections=answer.detections.above(threshold))
    if request.format == "json":
        answer.timing_ms["total"] = round(1e3 * (time.monotonic() - start), 2)
        make = partial(make_json, answer, service.category_ids)
        # The windows of an image may have many detections; meanwhile, others can be answered.
        many = len(answer.detections) > MANY
        return await asyncio.get_running_loop().run_in_executor(None, make) if many else make()
    longest = LONGEST_SIDES[f".{request.format}"]
    if max(answer.width, answer.height) > longest:
        reason = f"at most {longest} pixels per side are written; this image has {answer.width} x {answer.height}"
        raise Refused(422, f"format: as {request.format}, {reason}: ask for png or json")
    picture = await service.draw(request.image, answer.detections, request.format)
    return Response(picture, media_type=f"image/{request.format}")


def make_json(answer: Answer, category_ids: list[int]) -> Response:
    return JSONResponse(as_json(answer, category_ids))


def as_json(answer: Answer, category_ids: list[int]) -> dict[str, Any]:
    """The content of a JSON answer: detections from the highest score to the lowest, `box` x1, y1, x2, y2 in pixels."""
    found = answer.detections
    detections = [
        {
            "class": label,
            "name": name,
            "category_id": category_id(label, category_ids),
            "score": round(score, 5),
            "box": [round(value, 2) for value in box],
        }
        for label, name, score, box in zip(
            found.classes.tolist(), found.names, found.scores.tolist(), found.boxes.tolist()
        )
    ]
    return {
        "image": {"width": answer.width, "height": answer.height},
        "detections": sorted(detections, key=lambda one: -one["score"]),
        "batch_size": answer.batch_size,
        "timing_ms": answer.timing_ms,
    }


async def answer_refused(request: Request, error: Refused) -> Response:
    return error.response()


async def answer_wrong_path(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": str(error.detail).lower()}, error.status_code, error.headers)


async def answer_failure(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, so that the log has all of it.
    return JSONResponse({"error": "the server failed at this request; its log says why"}, 500)
