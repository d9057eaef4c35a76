"""The description of the server's paths in OpenAPI's format, which GET /openapi.json answers."""

from collections.abc import Collection
from typing import Any

import ppdet
from ppdet.deploy.serving.limits import KINDS
from ppdet.deploy.serving.request import MEDIA_TYPES, RAW_TYPES, Body, Options

TITLE = "ppdet: object detection"
# What each status of an error means; every error is one line of JSON.
ERRORS = {
    400: "The image, the form or the JSON is damaged, or exceeds a limit of its structure.",
    401: "The token is missing or wrong.",
    403: "A page of another origin asks.",
    408: "The request did not arrive in time.",
    413: "The request has too many bytes, or the image too many pixels.",
    414: "The query is too long.",
    415: "The content type is none of those of the body.",
    421: "The server is called by a name that it does not know.",
    422: "A field is missing, unknown, given twice or out of range, or the format cannot hold the picture.",
    431: "The head of the request is too large.",
    500: "The server failed at this request; its log says why.",
    503: "The server is busy, starting or ending; try again after the seconds of the header Retry-After.",
    504: "There was no answer in time.",
}
PIXELS = "pixels of the image, rotated as its EXIF data says"


def number(description: str, kind: str = "number", **further: Any) -> dict[str, Any]:
    return {"type": kind, "description": description, **further}


def record(properties: dict[str, Any], **further: Any) -> dict[str, Any]:
    """The schema of an object that has all of these properties."""
    return {"type": "object", "required": list(properties), "properties": properties, **further}


def or_null(schema: dict[str, Any], **further: Any) -> dict[str, Any]:
    """A schema that also takes null. Older tools do not read a list of types."""
    return {"anyOf": [schema, {"type": "null"}], **further}


TEXT_OR_NONE = or_null({"type": "string"})
SIDES = record({"width": number("in pixels", "integer"), "height": number("in pixels", "integer")})
CLASS = {
    "class": number("number of the class, from 0", "integer", minimum=0),
    "name": {"type": "string"},
    "category_id": number("id of the class in COCO's JSON format", "integer"),
}
BOX = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 4,
    "maxItems": 4,
    "description": f"x1, y1, x2, y2 in {PIXELS}",
}
TIMES = {
    "prepare": number("decoding and resizing the image"),
    "queue": number("waiting for a batch"),
    "inference": number("the run of the model, for the whole batch"),
    "total": number("from the first byte of the request to the answer"),
}
SCHEMAS: dict[str, Any] = {
    "Error": record({"error": {"type": "string", "maxLength": 200, "description": "one line"}}),
    "Status": record({"status": {"type": "string"}}),
    "Detection": record({**CLASS, "score": number("from 0 to 1", minimum=0, maximum=1), "box": BOX}),
    "Prediction": record(
        {
            "image": {**SIDES, "description": f"size in {PIXELS}"},
            "detections": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Detection"},
                "description": "from the highest score to the lowest",
            },
            "batch_size": number("images that the model ran with this one, and this one", "integer", minimum=1),
            "timing_ms": record(TIMES, description="milliseconds of each stage"),
        }
    ),
    "Class": record({**CLASS, "threshold": number("minimum score of its detections, unless a request names one")}),
    "Model": record(
        {
            "name": {"type": "string", "description": "name of the exported folder"},
            "architecture": TEXT_OR_NONE,
            "versions": record(
                {"ppdet": TEXT_OR_NONE, "paddle": TEXT_OR_NONE}, description="what exported the model, if it is known"
            ),
            "classes": {"type": "array", "items": {"$ref": "#/components/schemas/Class"}},
            "engine": {"type": "string", "description": "what runs the model, such as onnxruntime"},
            "device": {"type": "string"},
            "precision": {"type": "string"},
            "input_size": or_null(
                record({"usual": SIDES, "largest": SIDES, "fixed": {"type": "boolean"}}),
                description="to which sizes images are resized and padded; null if they keep their own sizes",
            ),
            "threshold": number("the same for a class that the model does not name"),
        }
    ),
}


def describe_paths(open_paths: Collection[str], has_token: bool) -> dict[str, Any]:
    """The whole document.

    Args:
        open_paths: paths that need no token.
        has_token: whether the server has a token, so that all other paths need it.
    """
    gets = {
        "/": ("A page to try the model", {"text/html": {}}),
        "/docs": ("This description as a page", {"text/html": {}}),
        "/openapi.json": ("This description in OpenAPI's format", {"application/json": {"schema": {"type": "object"}}}),
        "/model": ("The model: its name, classes, engine and input size", as_json("Model")),
        "/healthz": ("Whether the process runs", as_json("Status")),
        "/readyz": ("Whether requests can be sent", as_json("Status")),
        "/metrics": ("Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}),
    }
    busy = ("/readyz", "/model")
    paths: dict[str, Any] = {
        "/predict": {"post": {**prediction(), "security": security("/predict", open_paths, has_token)}}
    }
    for path, (summary, content) in gets.items():
        closed = path not in open_paths
        codes = [*([401] if closed and has_token else []), 421, *([503] if path in busy else [])]
        answers = {"200": {"description": summary, "content": content}, **errors(codes)}
        rights = security(path, open_paths, has_token)
        # An answer to HEAD has the same status and headers, and no content.
        bare = {"200": {"description": summary}, **{str(code): {"description": ERRORS[code]} for code in codes}}
        paths[path] = {
            "get": {"operationId": name_of("get", path), "summary": summary, "responses": answers, "security": rights},
            "head": {"operationId": name_of("head", path), "summary": summary, "responses": bare, "security": rights},
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": ppdet.__version__,
            "description": "Every error is JSON with one line in its member “error”. HEAD works wherever GET does.",
        },
        "servers": [{"url": "."}],
        "paths": paths,
        "components": {
            "schemas": {**SCHEMAS, "Request": Body.model_json_schema()},
            "responses": {
                str(status): {"description": text, "content": as_json("Error")} for status, text in ERRORS.items()
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def prediction() -> dict[str, Any]:
    """The operation POST /predict, without who may use it."""
    options = Options.model_json_schema()["properties"]
    form = record({"image": {**file_of("application/octet-stream"), "description": "an image file"}})
    form["properties"] |= options
    form["additionalProperties"] = False
    pictures = {kind: {"schema": file_of(kind)} for kind in MEDIA_TYPES if kind[:5] == "image"}
    return {
        "operationId": "predict",
        "summary": "Detect objects in an image",
        "description": f"The image is a file of one of the kinds {', '.join(KINDS)}, which its first bytes say.",
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": schema["description"],
                "schema": {key: value for key, value in schema.items() if key != "description"},
            }
            for name, schema in options.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": {"$ref": "#/components/schemas/Request"}},
                **{kind: {"schema": file_of(kind)} for kind in RAW_TYPES},
            },
        },
        "responses": {
            "200": {
                "description": "The detections, or the image with boxes if format or the header Accept says so",
                "content": {**as_json("Prediction"), **pictures},
            },
            **errors(ERRORS),
        },
    }


def file_of(kind: str) -> dict[str, str]:
    """The schema of a file's bytes. OpenAPI 3.1 has contentMediaType for them; generators of clients know format."""
    return {"type": "string", "format": "binary", "contentMediaType": kind}


def as_json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def errors(codes: Collection[int]) -> dict[str, Any]:
    return {str(code): {"$ref": f"#/components/responses/{code}"} for code in codes}


def security(path: str, open_paths: Collection[str], has_token: bool) -> list[dict[str, list[str]]]:
    return [{"token": []}] if has_token and path not in open_paths else []


def name_of(method: str, path: str) -> str:
    return f"{method}_{path.strip('/').replace('.', '_') or 'page'}"
