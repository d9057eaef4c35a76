"""The server's addresses."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ppdet.deploy.serving.gate import Gate
from ppdet.deploy.serving.limits import Refused, too_busy
from ppdet.deploy.serving.request import PredictRequest, read_request
from ppdet.deploy.serving.service import Answer, Service
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)

FOLDER = Path(__file__).parent
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# Metrics need the token where there is one: they tell of the traffic. Prometheus can send it.
OPEN_PATHS = {*PAGE, "/healthz", "/readyz"}
KNOWN_PATHS = {*OPEN_PATHS, "/metrics", "/predict"}
CLIENT_GONE = 499  # as nginx counts them; nobody gets to see this


def create_app(service: Service) -> Gate:
    """The application (ASGI) of a service, which starts and stops with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # FastAPI's pages of documentation load scripts from elsewhere.
    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(Refused, refuse)
    app.add_exception_handler(HTTPException, refuse_address)
    app.add_exception_handler(Exception, fail)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        return await answer(service, request)

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> Response:
        return JSONResponse({"status": "alive"})

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> Response:
        if service.obstacle is not None:
            raise too_busy(service.obstacle)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    for path, (name, media_type) in PAGE.items():
        add_file(app, path, (FOLDER / name).read_bytes(), media_type)
    # Around everything, so that answers to failures pass it too.
    return Gate(app, service, OPEN_PATHS, KNOWN_PATHS)


def add_file(app: FastAPI, path: str, content: bytes, media_type: str) -> None:
    @app.get(path)
    async def file() -> Response:
        return Response(content, media_type=media_type)


async def answer(service: Service, request: Request) -> Response:
    """Read a request to /predict, and do as it says, in the time there is.

    Raises:
        Refused: it cannot be done.
    """
    start = time.monotonic()
    metrics, settings = service.metrics, service.settings
    with service.admission(), metrics.latency.time():
        with metrics.stage("read"):
            try:
                wanted = await asyncio.wait_for(read_request(request, settings.max_body), settings.timeout_s)
            except asyncio.TimeoutError:
                reason = f"the request did not arrive within {settings.timeout_s:g} s"
                raise Refused(408, reason, {"Connection": "close"}) from None
            except ClientDisconnect:
                raise Refused(CLIENT_GONE, "the client went away") from None
        left = settings.timeout_s - (time.monotonic() - start)
        return await within(left, make_response(service, wanted, start), request)


async def within(seconds: float, work: Awaitable[Response], request: Request) -> Response:
    """The work's result, unless it takes longer or the client goes away: then what has not begun of it is dropped.

    Raises:
        Refused: it is so.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise Refused(CLIENT_GONE, "the client went away")
        raise Refused(504, "there was no time left to detect anything: fewer requests at once, or a smaller image")
    finally:
        task.cancel()
        gone.cancel()


async def make_response(service: Service, wanted: PredictRequest, start: float) -> Response:
    found = await service.detect(wanted.image)
    found = found._replace(detections=found.detections.above(wanted.threshold))
    if wanted.format == "json":
        found.timing_ms["total"] = round(1e3 * (time.monotonic() - start), 2)
        return JSONResponse(describe(found, service.detector.category_ids))
    picture = await service.draw(wanted.image, found.detections, wanted.format)
    return Response(picture, media_type=f"image/{wanted.format}")


def describe(found: Answer, category_ids: list[int]) -> dict[str, Any]:
    """An answer as JSON has it, the best detection first; boxes are x1, y1, x2, y2 in pixels of the image."""
    detections = [
        {
            "class": int(label),
            "name": name,
            "category_id": category_ids[label] if label < len(category_ids) else int(label),
            "score": round(score, 5),
            "box": [round(value, 2) for value in box],
        }
        for label, name, score, box in zip(
            found.detections.classes,
            found.detections.names,
            found.detections.scores.tolist(),
            found.detections.boxes.tolist(),
        )
    ]
    return {
        "image": {"width": found.width, "height": found.height},
        "detections": sorted(detections, key=lambda one: -one["score"]),
        "batch_size": found.batch_size,
        "timing_ms": found.timing_ms,
    }


async def refuse(request: Request, error: Refused) -> Response:
    return JSONResponse({"error": error.reason}, error.status, error.headers)


async def refuse_address(request: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": str(error.detail).lower()}, error.status_code, error.headers)


async def fail(request: Request, error: Exception) -> Response:
    # The log has it all: Starlette raises the error again after this answer.
    return JSONResponse({"error": "the server failed at this request; its log says why"}, 500)
