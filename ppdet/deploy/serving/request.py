"""Reading a request to /predict: an image, a score threshold, and the format of the answer."""

import asyncio
import base64
import binascii
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ppdet.deploy.serving.limits import Refused, read_within

Format = Literal["json", "jpeg", "png"]
MEDIA_TYPES: dict[str, Format] = {"application/json": "json", "image/jpeg": "jpeg", "image/png": "png"}
# An image file may be the whole body. Its first bytes say of what kind it is, whichever of these the header names.
RAW_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff", "application/octet-stream")
OTHER_NAMES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
HOW = 'send a form with the file "image" (multipart/form-data), the file alone, or JSON {"image": base64}'
# curl's option --data-binary names the type of a form's text unless it is told another one.
WRONG_TYPE = (
    "expected the header Content-Type of a form (curl -F image=@FILE), of JSON (application/json), or of a file alone: "
    "curl -H 'Content-Type: image/jpeg' --data-binary @FILE"
)
# Limits that honest requests are far from. They keep the work linear in a request's size, and small per byte.
MAX_FIELDS = 8
LONGEST_FIELD = 1024
LONGEST_QUERY = 1000
LONGEST_CONTENT_TYPE = 500
MAX_DELIMITERS = 16  # of a form: one before each part, and one at the end
MAX_MARKS = 100  # quotes, commas and brackets in JSON; three members need fewer than twenty


class Options(BaseModel):
    """Options in the query, or as fields of a form."""

    model_config = ConfigDict(extra="forbid")

    threshold: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="minimum score of a detection; by default the model's own"
    )
    format: Format | None = Field(None, description="format of the answer; the header Accept can name it instead")


class Body(Options):
    """A request in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True, title="Request")

    image: str = Field(description="an image file, base64", json_schema_extra={"contentEncoding": "base64"})


class PredictRequest(NamedTuple):
    """An image file's bytes, the minimum score of a detection (None: the model's), and the format of the answer."""

    image: bytes
    threshold: float | None
    format: Format


class InMemoryParser(MultiPartParser):
    # By default larger files go to a disk, which may be full or read-only. read_within limits the size.
    spool_max_size = max_file_size = 1 << 62


async def read_request(
    request: Request, max_body: int, crowded: Callable[[], bool], turn: asyncio.Lock
) -> PredictRequest:
    """Read and check a request, of at most `max_body` bytes; see `read_within`.

    Args:
        turn: one for all requests; they are parsed one by one, and between two of them others can be answered.

    Raises:
        Refused: the request is too large, or wrong; the reason says what was expected.
        ClientDisconnect: the client has closed the connection.
    """
    query = one_each(read_query(request))
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower() if len(content_type) <= LONGEST_CONTENT_TYPE else ""
    kind = OTHER_NAMES.get(kind, kind)
    if kind == "multipart/form-data":
        form = await read_form(request, read_within(request, max_body, crowded))
        fields = one_each(form.multi_items())
        image = fields.pop("image", None)
        if not hasattr(image, "read"):
            missing = "is text" if image is not None else "is missing"
            raise Refused(422, f"image {missing}; expected a file: curl -F image=@FILE")
        options = validate(Options, {**query, **fields})
        data = await image.read()
    elif kind == "application/json":
        validate(Options, query)
        body = await read_json(read_within(request, max_body, crowded))
        async with turn:
            options = validate(Body, body)
            await asyncio.sleep(0)
            data = decode_base64(options.image)
        options = options.model_copy(update=validate(Options, query).model_dump(exclude=options.model_fields_set))
    elif kind in RAW_TYPES:
        options = validate(Options, query)
        raw = bytearray()
        async for part in read_within(request, max_body, crowded):
            raw += part
        data = bytes(raw)
    else:
        raise Refused(415, WRONG_TYPE)
    return PredictRequest(data, options.threshold, options.format or accepted(request.headers.get("accept", "")))


def read_query(request: Request) -> list[tuple[str, str]]:
    """Names and values of the query.

    Raises:
        Refused: the query is too long.
    """
    query = request.scope["query_string"]
    if len(query) > LONGEST_QUERY or query.count(b"&") > MAX_FIELDS:
        raise Refused(414, f"the query has more than {LONGEST_QUERY} bytes or {MAX_FIELDS} options")
    return request.query_params.multi_items()


async def read_form(request: Request, body: AsyncIterator[bytes]) -> FormData:
    _, parameters = parse_options_header(request.headers["content-type"])
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise Refused(400, "Missing boundary in multipart/form-data")
    stream = few_parts(body, b"\r\n--" + boundary)
    parser = InMemoryParser(request.headers, stream, max_files=1, max_fields=MAX_FIELDS)
    parser.max_part_size = LONGEST_FIELD  # not an argument in all versions of Starlette
    try:
        return await parser.parse()
    except (Refused, ClientDisconnect):
        raise
    except MultiPartException as error:
        raise Refused(400, error.message) from None
    except Exception:  # parsers raise many classes for broken forms
        raise Refused(400, "the form is broken: expected multipart/form-data") from None


async def few_parts(stream: AsyncIterator[bytes], delimiter: bytes) -> AsyncIterator[bytes]:
    """Pass a form on, and look at its delimiters on the way: a parser has much to do at each of them.

    Raises:
        Refused: there are more than `MAX_DELIMITERS`, or there is space behind one, which a parser reads byte by byte.
    """
    count, tail = 0, b""
    async for part in stream:
        seen = tail + part
        count += seen.count(delimiter) - (tail == delimiter)
        if count > MAX_DELIMITERS:
            raise Refused(400, "the form has too many parts")
        if count and (delimiter + b" " in seen or delimiter + b"\t" in seen):
            raise Refused(400, "the form is broken: there is space behind a delimiter")
        tail = seen[-len(delimiter) :]
        yield part


def one_each(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Turn pairs of name and value into a dictionary.

    Raises:
        Refused: a name is given twice.
    """
    for name, count in Counter(name for name, _ in items).items():
        if count > 1:
            raise Refused(422, f"{name}: given twice")
    return dict(items)


async def read_json(parts: AsyncIterator[bytes]) -> bytearray:
    """Collect the text of a JSON request.

    Raises:
        Refused: there is more in it than a request needs, which would take long to parse.
    """
    body, marks = bytearray(), 0
    async for part in parts:
        # Some clients escape the slashes of base64. All of them at once would take the parser long.
        body += part.replace(b"\\/", b"/")
        marks += sum(map(part.count, (b'"', b",", b"[", b"{")))
        if marks > MAX_MARKS:
            raise Refused(400, f"not JSON of this kind: more than {MAX_MARKS} quotes, commas and brackets; {HOW}")
    return body


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
    """The format that an Accept header prefers of those that the server has; JSON if it takes none of them.

    The highest quality (q) wins, then a type over a range such as image/*, then the type that is named first.
    """
    qualities: dict[str, float] = {}
    for part in header.lower().split(","):
        kind, _, rest = part.partition(";")
        quality = re.search(r"(?:^|;)\s*q=([01](?:\.\d*)?)\s*(?:;|$)", rest)
        qualities.setdefault(OTHER_NAMES.get(kind.strip(), kind.strip()), float(quality[1]) if quality else 1.0)
    ranks = []
    for kind, name in MEDIA_TYPES.items():
        ranges = (kind, f"{kind.partition('/')[0]}/*", "*/*")
        found = next((one for one in ranges if one in qualities), None)
        if found and qualities[found]:
            ranks.append((qualities[found], -ranges.index(found), -list(qualities).index(found), name))
    return max(ranks, key=lambda rank: rank[:3])[3] if ranks else "json"
