"""Requests that would take long to parse, or that nobody needs to read."""

import asyncio
import base64
import io
import json

import pytest
from PIL import Image
from serving import form

from ppdet.deploy.serving import limits, request
from ppdet.deploy.serving.app import create_app

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=a"}
PNG = {"Content-Type": "image/png"}


def part(name="t", filename="", content=b"0.5", further=""):
    head = f'--a\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n{further}\r\n'
    return head.encode() + content + b"\r\n"


FILE = '; filename="x"'


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (json.dumps({f"k{i}": 1 for i in range(200_000)}).encode(), JSON, 400, "more than 100 quotes, commas"),
        (b'{"image": {' + b'"a": 1, ' * 100_000 + b"}}", JSON, 400, "more than 100 quotes, commas"),
        (b'{"image": [' + b"1," * 500_000 + b"1]}", JSON, 400, "more than 100 quotes, commas"),
        (b'{"a":' * 200_000, JSON, 400, "more than 100 quotes, commas"),
        (b'{"image": "' + b'\\"' * 500_000 + b'"}', JSON, 400, "more than 100 quotes, commas"),
        (b'{"threshold": ' + b"1" * 1_000_000 + b"}", JSON, 400, "not JSON"),
        (b'{"image": "\\ud800"}', JSON, 400, "not JSON"),
        (part() * 100_000, FORM, 400, "too many parts"),
        (part()[:-2] + b"\r\n--aX" * 100_000, FORM, 400, "too many parts"),
        (part("image", FILE) + b"--a" + b" " * 1_000_000, FORM, 400, "space behind a delimiter"),
        (part("image", FILE, further="a: b\r\n" * 100_000), FORM, 400, "multipart"),
        (part("image", FILE, further="a: " + "b" * 1_000_000 + "\r\n"), FORM, 400, "multipart"),
        (part("threshold", content=b"1" * 100_000), FORM, 400, "Part exceeded maximum size of 1KB"),
        (b"".join(part(f"f{i}") for i in range(9)) + b"--a--", FORM, 400, "Too many fields"),
        (b"x", {"Content-Type": "multipart/form-data; boundary="}, 400, "Missing boundary"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=" + "a" * 1000}, 415, "expected the header"),
        (b"x", {"Content-Type": "multipart/form-data" + ";" * 10_000}, 415, "expected the header"),
    ],
)
def test_bodies_that_would_take_long(client, body, headers, status, reason):
    response = client.post("/predict", content=body, headers=headers)
    assert response.status_code == status and reason in response.json()["error"], response.text


@pytest.mark.parametrize("query", ["&".join(f"k{i}=1" for i in range(6000)), "a&" * 9, "a" * 1001, "%ff" * 400])
def test_queries_that_nobody_needs(client, images, query):
    response = client.post(f"/predict?{query}", files={"image": images[0]})
    assert response.status_code == 414
    assert response.json() == {"error": "the query has more than 1000 bytes or 8 options"}


def test_delimiters_are_counted_over_the_borders_of_parts(client, images):
    """A form that arrives byte by byte is read as one that arrives at once."""
    body, headers = form(images[3], threshold="0.45")
    whole = client.post("/predict", content=body, headers=headers).json()
    broken = part("image", FILE) + b"--a z"

    async def bytewise(content):
        for value in content:
            yield bytes([value])

    response = client.post("/predict", content=bytewise(body), headers=headers)
    assert response.status_code == 200 and response.json()["detections"] == whole["detections"]
    response = client.post("/predict", content=bytewise(broken), headers=FORM)
    assert response.json() == {"error": "the form is broken: there is space behind a delimiter"}
    response = client.post("/predict", content=bytewise(part()[:-2] + b"\r\n--aX" * 20), headers=FORM)
    assert response.json() == {"error": "the form has too many parts"}


def test_what_is_too_much_is_not_read_to_its_end(client):
    sent = []

    async def parts(content):
        for _ in range(1000):
            sent.append(1)
            yield content

    for content, headers in ((b'"k": 1, ' * 100, JSON), (part() * 20, FORM)):
        sent.clear()
        assert client.post("/predict", content=parts(content), headers=headers).status_code == 400
        assert len(sent) < 5


def test_requests_are_parsed_one_by_one(client, images, monkeypatch):
    """Between two of them the server answers others: the health check gets through while 8 requests wait."""
    order = []
    validate, decode = request.validate, request.decode_base64

    def noted(kind, content):
        if kind is request.Body:
            order.append("begin")
        return validate(kind, content)

    monkeypatch.setattr(request, "validate", noted)
    monkeypatch.setattr(request, "decode_base64", lambda text: order.append("end") or decode(text))
    body = {"image": base64.b64encode(images[0]).decode()}

    async def all_at_once():
        work = [client.client.post("/predict", json=body) for _ in range(8)]
        return await asyncio.gather(*work, client.client.get("/healthz"))

    assert {response.status_code for response in client.run(all_at_once())} == {200}
    assert order == ["begin", "end"] * 8


def answer(client, headers, method="POST", path="/predict", body=b""):
    """The start of the application's answer to a raw request, and how often it asked for the body."""
    asked, sent = [], []

    async def receive():
        asked.append(1)
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(message):
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw}
    client.run(create_app(client.service)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), len(asked)


@pytest.mark.parametrize(
    ("status", "headers", "method", "path"),
    [
        (401, JSON, "POST", "/predict"),
        (401, JSON, "POST", "/nowhere"),
        (404, {**JSON, "Authorization": "Bearer s3cret"}, "POST", "/nowhere"),
        (404, {**JSON, "Authorization": "Bearer s3cret"}, "POST", "/healthz/"),  # no redirect
        (405, {**JSON, "Authorization": "Bearer s3cret"}, "PUT", "/predict"),
        (405, JSON, "POST", "/healthz"),
        (413, {**JSON, "Authorization": "Bearer s3cret", "Content-Length": "999999999"}, "POST", "/predict"),
        (401, PNG, "POST", "/predict"),
        (403, {**PNG, "Host": "127.0.0.1", "Origin": "http://evil.example"}, "POST", "/predict"),
        (413, {**PNG, "Authorization": "Bearer s3cret", "Content-Length": "999999999"}, "POST", "/predict"),
        (421, {**PNG, "Host": "evil.example"}, "POST", "/predict"),
        (415, {"Content-Type": "text/plain", "Authorization": "Bearer s3cret"}, "POST", "/predict"),
        (421, {**JSON, "Host": "evil.example"}, "POST", "/healthz"),
        (421, {**JSON, "Host": "evil.example"}, "GET", "/"),
        (403, {**JSON, "Host": "127.0.0.1", "Origin": "http://evil.example"}, "POST", "/predict"),
        (403, {**JSON, "Origin": "null"}, "POST", "/predict"),
    ],
)
def test_refused_without_reading(client, status, headers, method, path):
    with client.settings(token="s3cret"):
        got, answered, asked = answer(client, {"Content-Length": "30000000", **headers}, method, path)
    assert (got, asked) == (status, 0) and answered[b"connection"] == b"close"


def test_connections_stay_open_when_all_was_read(client, images):
    body, headers = form(images[0])
    assert "connection" not in client.post("/predict", content=body, headers=headers).headers
    assert "connection" not in client.get("/healthz").headers


def test_names_that_the_server_is_told(client, images):
    files = {"files": {"image": images[0]}}
    headers = {"Host": "detector.example:8080", "Origin": "https://detector.example"}
    for path in ("/", "/healthz", "/metrics"):
        refused = client.get(path, headers=headers)
        assert refused.status_code == 421 and "--trusted_hosts NAME" in refused.json()["error"]
    with client.settings(trusted_hosts=frozenset({"detector.example"})):
        assert client.get("/healthz", headers=headers).status_code == 200
        assert client.post("/predict", headers=headers, **files).status_code == 200
        assert client.post("/predict", headers={"Origin": "https://evil.example"}, **files).status_code == 403


def test_slow_requests(client, monkeypatch):
    """A request that stops arriving ends; and one that arrives slowly ends as soon as others wait for its place."""

    async def trickle():
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    monkeypatch.setattr(limits, "STALL_S", 0.05)
    response = client.post("/predict", content=trickle(), headers=JSON)
    assert response.status_code == 408 and "less than 4096 bytes" in response.json()["error"]
    monkeypatch.undo()
    monkeypatch.setattr(limits, "CROWDED_S", 0.05)
    with client.settings(max_queue=1):
        response = client.post("/predict", content=trickle(), headers=JSON)
    assert response.status_code == 408 and "others wait" in response.json()["error"]
    assert client.service.admitted == 0


def test_jpeg_has_a_limit_of_its_own(client):
    stream = io.BytesIO()
    Image.new("L", (65_501, 10)).save(stream, "PNG")
    response = client.post("/predict?format=jpeg", files={"image": stream.getvalue()})
    assert response.status_code == 422
    reason = "at most 65500 pixels per side are written; this image has 65501 x 10"
    expected = f"format: as jpeg, {reason}: ask for png or json"
    assert response.json() == {"error": expected}
    text = base64.b64encode(stream.getvalue()).decode()
    assert client.post("/predict", json={"image": text, "format": "png"}).status_code == 200


def test_slashes_that_are_escaped():
    async def parts():
        for part in (b'{"image": "ab\\/cd', b"\\/\\", b'/ef\\/"}'):  # one of them comes in two parts
            yield part

    body = asyncio.run(request.read_json(parts()))
    assert body == b'{"image": "ab/cd/\\/ef/"}' and request.validate(request.Body, body).image == "ab/cd//ef/"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_an_image_file_may_be_the_whole_body(client, images, kind):
    """Each kind is answered as in a form, whichever of the content types the header names."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(images[0])).save(stream, kind)
    expected = client.post("/predict?threshold=0.45", files={"image": stream.getvalue()}).json()
    assert len(expected["detections"]) > 3
    for name in (f"image/{kind.lower()}; x=y", "Application/Octet-Stream", "image/png", "image/jpg", "IMAGE/pjpeg"):
        response = client.post("/predict?threshold=0.45", content=stream.getvalue(), headers={"Content-Type": name})
        assert response.status_code == 200, response.text
        assert {**response.json(), "timing_ms": 0, "batch_size": 0} == {**expected, "timing_ms": 0, "batch_size": 0}
    picture = client.post("/predict", content=stream.getvalue(), headers={**PNG, "Accept": "image/png"})
    assert picture.headers["content-type"] == "image/png" and picture.content[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html", "json"),
        ("image/jpg", "jpeg"),
        ("image/webp,image/png;q=0", "json"),
        ("image/png; q=0.000, image/jpeg", "jpeg"),
        ("image/*, image/jpeg;q=0", "png"),
        ("application/json;q=0, */*", "jpeg"),
        ("*/*;q=0", "json"),
        ("image/png;q=0.5, image/jpeg", "jpeg"),
        ("image/png, image/jpeg", "png"),
        ("image/png;q=0.1, */*", "json"),
        ("*/*, image/png", "png"),
        ("image/*,*/*;q=0.8", "jpeg"),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "png"),
        ("image/png;Q=0.3;x=y, application/json; q=0.2", "png"),
        ("image/png;q=x, application/json;q=1", "png"),
    ],
)
def test_the_header_accept(header, expected):
    """The qualities of RFC 9110, section 12.5.1: 0 forbids, the highest wins, a type is closer than a range."""
    assert request.accepted(header) == expected


def test_whole_bodies_keep_all_limits(client, images, monkeypatch):
    sent = []

    async def parts(content):
        for _ in range(1000):
            sent.append(1)
            yield content

    def reason(status, content, query="", headers=PNG):
        response = client.post(f"/predict{query}", content=content, headers=headers)
        assert response.status_code == status, response.text
        return response.json()["error"]

    assert reason(400, b"") == "the image is an empty file"
    assert reason(400, b"GIF89a") == "not an image, or damaged; expected one of JPEG, PNG, WEBP, BMP, TIFF"
    assert reason(400, images[0][:-200]) == "the image cannot be decoded: the file is truncated"
    assert reason(414, images[0], "?" + "a" * 1001).startswith("the query has more than")
    for query, name in (("?threshold=2", "threshold: "), ("?size=3", "size: Extra"), ("?format=gif", "format: ")):
        assert reason(422, parts(images[0]), query).startswith(name)
    assert sent == []  # options are wrong before the body is read
    with client.settings(max_pixels=1000):
        assert reason(413, images[0]) == "the image has more than 1000 pixels"
    with client.settings(max_body_mb=0.01):
        assert reason(413, parts(b"x" * 1000)) == "the request is larger than 0.01 MiB"
        assert len(sent) < 20
        assert reason(413, b"x" * 11_000) == "the request is larger than 0.01 MiB"

    async def trickle():
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    monkeypatch.setattr(limits, "STALL_S", 0.05)
    assert "less than 4096 bytes" in reason(408, trickle())
    monkeypatch.undo()
    monkeypatch.setattr(limits, "CROWDED_S", 0.05)
    with client.settings(max_queue=1):
        assert "others wait" in reason(408, trickle())
    monkeypatch.undo()
    with client.settings(timeout_s=0.05):
        assert "did not arrive within 0.05 s" in reason(408, trickle())
    assert client.service.admitted == 0


def test_a_time_limit_that_ends_as_a_part_arrives_is_kept():
    """It was lost before Python 3.12, so that the request was read on for as long as its client liked."""

    class Arriving:
        headers = {}

        async def receive(self):
            self.part = asyncio.get_running_loop().create_future()
            return await self.part

    async def read(request_):
        async for _ in limits.read_within(request_, 1000, lambda: False):
            pass

    async def both_at_once():
        coming = Arriving()
        reading = asyncio.ensure_future(read(coming))
        for _ in range(5):
            await asyncio.sleep(0)
        coming.part.set_result({"type": "http.request", "body": b"x", "more_body": True})
        reading.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        ended = reading.cancelled()
        reading.cancel()
        return ended

    assert asyncio.run(both_at_once())
