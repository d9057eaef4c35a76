"""Reading a request to /predict: an image, a score threshold, and the format of the answer."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from ppdet.deploy.serving.limits import Refused, read_within

Format = Literal["json", "jpeg", "png"]
MEDIA_TYPES: dict[str, Format] = {"application/json": "json", "image/jpeg": "jpeg", "image/png": "png"}
HOW = 'send a form with the file "image" (multipart/form-data), or JSON {"image": base64}'
MAX_FIELDS = 8


class Options(BaseModel):
    """Options in the query, or as fields of a form."""

    model_config = ConfigDict(extra="forbid")

    threshold: float = Field(0.5, ge=0, le=1, allow_inf_nan=False, description="least score of a detection")
    format: Format | None = Field(None, description="of the answer; the header Accept says it as well")


class Body(Options):
    """A request in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(description="an image file, base64")


class PredictRequest(NamedTuple):
    """image: the bytes of an image file. threshold: least score of a detection in the answer. format: of the answer."""

    image: bytes
    threshold: float
    format: Format


class InMemoryParser(MultiPartParser):
    # By default larger files go to a disk, which may be full or read-only. read_within limits the size.
    spool_max_size = max_file_size = 1 << 62


async def read_request(request: Request, max_body: int) -> PredictRequest:
    """Read and check a request.

    Raises:
        Refused: the request is too large, or wrong; the reason says what was expected.
        ClientDisconnect: the client has closed the connection.
    """
    query = one_each(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        form = await read_form(request, max_body)
        fields = one_each(form.multi_items())
        image = fields.pop("image", None)
        if not hasattr(image, "read"):
            missing = "is text" if image is not None else "is missing"
            raise Refused(422, f"image {missing}; expected a file: curl -F image=@FILE")
        options = validate(Options, {**query, **fields})
        data = await image.read()
    elif kind == "application/json":
        validate(Options, query)
        body = bytearray()
        async for part in read_within(request, max_body):
            body += part
        options = validate(Body, bytes(body))
        data = decode_base64(options.image)
        options = options.model_copy(update=validate(Options, query).model_dump(exclude=options.model_fields_set))
    else:
        raise Refused(415, f"expected multipart/form-data or application/json: {HOW}")
    return PredictRequest(data, options.threshold, options.format or accepted(request.headers.get("accept", "")))


async def read_form(request: Request, max_body: int) -> FormData:
    parser = InMemoryParser(request.headers, read_within(request, max_body), max_files=1, max_fields=MAX_FIELDS)
    try:
        return await parser.parse()
    except (Refused, ClientDisconnect):
        raise
    except MultiPartException as error:
        raise Refused(400, error.message) from None
    except Exception:  # parsers raise many classes for broken forms
        raise Refused(400, "the form is broken: expected multipart/form-data") from None


def one_each(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Turn pairs of name and value into a dictionary.

    Raises:
        Refused: a name is given twice.
    """
    result = dict(items)
    if len(result) < len(items):
        names = [name for name, _ in items]
        raise Refused(422, f"{next(name for name in names if names.count(name) > 1)}: given twice")
    return result


def validate(kind: type[Options], content: Any) -> Any:
    """Validate a dictionary, or the bytes of a JSON text, as Options or Body.

    Raises:
        Refused: the content is invalid; the reason names the first mistake.
    """
    try:
        if isinstance(content, Mapping):
            return kind.model_validate(content)
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Refused(400, first["msg"].replace("Invalid JSON", "not JSON")) from None
        name = ".".join(str(part) for part in first["loc"])[:60]
        expected = "" if first["type"] != "extra_forbidden" else f"; expected {', '.join(kind.model_fields)}"
        raise Refused(422, f"{name}: {first['msg']}{expected}" if name else f"{first['msg']}: {HOW}") from None


def decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(422, "image: not base64 (without line breaks, and without data: in front)") from None


def accepted(header: str) -> Format:
    """The first format in an Accept header that the server has; otherwise JSON."""
    kinds = (part.partition(";")[0].strip().lower() for part in header.split(","))
    return next((MEDIA_TYPES[kind] for kind in kinds if kind in MEDIA_TYPES), "json")
