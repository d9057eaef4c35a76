"""Requests and answers, in this process, with a real model."""

import asyncio
import base64
import io
import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from patience import PATIENCE, wait_until
from PIL import Image
from serving import form

from ppdet.deploy import Detector
from ppdet.deploy.serving.app import create_app
from ppdet.visualize import draw_detections


@pytest.fixture(scope="module")
def detector(served):
    return Detector(served)


def hold_model(client, monkeypatch):
    """The model waits for the event that is returned; the list has the size of each batch that came."""
    run, sizes, release = client.service.batcher.run, [], threading.Event()

    def wait(samples):
        sizes.append(len(samples))
        assert release.wait(PATIENCE)
        return run(samples)

    monkeypatch.setattr(client.service.batcher, "run", wait)
    return sizes, release


def as_rows(content):
    return np.array([[d["class"], d["score"], *d["box"]] for d in content["detections"]])


def by_score(rows):
    return rows[np.argsort(-rows[:, 1], kind="stable")]


def test_answers_are_the_detectors(client, detector, images):
    for number, image in enumerate(images):
        expected = detector.predict(image)
        response = client.post("/predict", files={"image": image}, data={"threshold": "0.45"})
        assert response.status_code == 200
        content = response.json()
        kept = expected.above(0.45)
        assert 3 < len(kept) < len(expected)
        np.testing.assert_allclose(as_rows(content), by_score(kept.rows), atol=0.006)
        assert content["image"] == {"width": 50 if number == 3 else 101, "height": 77}
        names, ids = {0: "red", 1: "blue"}, {0: 3, 1: 7}
        for found in content["detections"]:
            assert found["name"] == names[found["class"]] and found["category_id"] == ids[found["class"]]
        timing = content["timing_ms"]
        assert 0 < timing["prepare"] + timing["inference"] < timing["total"]


def test_json_query_and_form_say_the_same(client, images):
    text = base64.b64encode(images[0]).decode()
    answers = [
        client.post("/predict", json={"image": text, "threshold": 0.5}),
        client.post("/predict?threshold=0.5", json={"image": text}),
        client.post("/predict?threshold=0.9", json={"image": text, "threshold": 0.5}),
        client.post("/predict?threshold=0.5", files={"image": images[0]}),
        client.post("/predict", files={"image": images[0]}),  # 0.5 is the default
    ]
    assert {answer.status_code for answer in answers} == {200}
    first, *others = [as_rows(answer.json()) for answer in answers]
    assert len(first) > 1 and all(np.array_equal(first, other) for other in others)
    assert client.post("/predict?threshold=1", files={"image": images[0]}).json()["detections"] == []


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "image/png", "png"),
        ("?format=png", "application/json", "png"),
        ("", "text/html, image/jpeg;q=0.9", "jpeg"),
        ("", "*/*", "json"),
    ],
)
def test_pictures(client, detector, images, query, accept, kind):
    response = client.post(f"/predict{query}", files={"image": images[0]}, headers={"Accept": accept})
    assert response.status_code == 200
    if kind == "json":
        assert response.headers["content-type"] == "application/json"
        return
    assert response.headers["content-type"] == f"image/{kind}"
    with Image.open(io.BytesIO(response.content)) as picture:
        assert picture.format.lower() == kind and picture.size == (101, 77)
        drawn = np.asarray(picture.convert("RGB"))
    original = cv2.imdecode(np.frombuffer(images[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    expected = draw_detections(original, detector.predict(images[0]).rows, ["red", "blue"], 0.5)
    assert np.abs(expected.astype(int) - original).mean() > 10
    if kind == "png":
        assert np.array_equal(drawn, expected)
    else:  # which blurs
        assert np.abs(expected.astype(int) - drawn).mean() < 0.6 * np.abs(original.astype(int) - drawn).mean()


def test_turned_photos_have_boxes_in_the_turned_image(client, detector, images):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.open(io.BytesIO(images[0])).save(stream, "JPEG", exif=exif)
    content = client.post("/predict?threshold=0.45", files={"image": stream.getvalue()}).json()
    assert content["image"] == {"width": 77, "height": 101}
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    stored = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), flags)[..., ::-1]
    expected = detector.predict(np.ascontiguousarray(np.rot90(stored, -1))).above(0.45)
    assert len(expected) > 3
    np.testing.assert_allclose(as_rows(content), by_score(expected.rows), atol=0.006)


def test_concurrent_requests_share_batches_and_get_their_own_answers(client, detector, images, monkeypatch):
    expected = [by_score(detector.predict(image).above(0.45).rows) for image in images]
    names = ("ppdet_batch_size_sum", "ppdet_batch_size_count")
    before = [client.metric(name) for name in names]
    _, release = hold_model(client, monkeypatch)
    order = [number % 4 for number in range(24)]
    with client.batches(3, 0.5), ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: client.post("/predict?threshold=0.45", files={"image": images[n]}).json(), order)
        queue = client.service.batcher
        wait_until(lambda: len(queue.waiting) + len(queue.running) == 8, "the model has some, all others wait for it")
        release.set()
        answers = list(answers)
    for number, content in zip(order, answers):
        np.testing.assert_allclose(as_rows(content), expected[number], atol=0.006)
    assert max(content["batch_size"] for content in answers) == 3
    ran, batches = (client.metric(name) - value for name, value in zip(names, before))
    assert ran == 24 and batches < 22
    assert client.service.admitted == 0


def test_health_and_metrics(client, images):
    paths = [("/predict", "200"), ("/predict", "405"), ("other", "404")]
    counted = [client.metric("ppdet_http_requests_total", path=path, status=status) for path, status in paths]
    names = ("ppdet_predict_duration_seconds_count", "ppdet_batch_size_count", "ppdet_batch_size_sum")
    before = [client.metric(name) for name in names]
    runs = client.metric("ppdet_stage_duration_seconds_count", stage="inference")
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    client.post("/predict", files={"image": images[0]})
    client.get("/predict")
    client.get("/nowhere")
    text = client.get("/metrics").text.splitlines()
    for (path, status), count in zip(paths, counted):
        assert f'ppdet_http_requests_total{{path="{path}",status="{status}"}} {count + 1}' in text
    assert [f"{name} {count + 1}" in text for name, count in zip(names, before)] == [True] * 3
    assert f'ppdet_stage_duration_seconds_count{{stage="inference"}} {runs + 1}' in text
    assert "ppdet_queue_depth 0.0" in text and "ppdet_ready 1.0" in text
    assert 'ppdet_model_info{backend="paddle",device="cpu",precision="fp32"} 1.0' in text
    restarts = client.metric("ppdet_worker_restarts_total", worker="model")
    assert f'ppdet_worker_restarts_total{{worker="model"}} {restarts}' in text
    client.service.draining = True
    try:
        assert client.run(client.client.head("/healthz")).status_code == 200
        response = client.get("/readyz")
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert response.headers["connection"] == "close"
        assert "ppdet_ready 0.0" in client.get("/metrics").text.splitlines()
    finally:
        client.service.draining = False


def test_token(client, images):
    body = {"files": {"image": images[0]}}
    with client.settings(token="s3cret"):
        for path in ("/", "/page.js", "/page.css", "/healthz"):
            assert client.get(path).status_code == 200
        for header in (None, "Bearer wrong", "s3cret", "Basic s3cret", "Bearer s3crets", "Bearer s3cr\u00e9t".encode()):
            headers = {} if header is None else {"Authorization": header}
            for response in (client.post("/predict", headers=headers, **body), client.get("/metrics", headers=headers)):
                assert response.status_code == 401, header
                assert response.headers["www-authenticate"] == "Bearer" and "Bearer TOKEN" in response.json()["error"]
        headers = {"Authorization": "Bearer s3cret"}
        assert client.post("/predict", headers=headers, **body).status_code == 200
        assert client.get("/metrics", headers=headers).status_code == 200


def test_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    for path in ("/", "/boxes.js", "/about.js", "/page.js", "/page.css"):
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace("https or from localhost", ""), path
    assert "access-control-allow-origin" not in client.get("/", headers={"Origin": "http://elsewhere"}).headers


def test_more_than_the_queue_holds(client, images):
    with client.settings(max_queue=2):
        with client.service.admission("") as first, client.service.admission("") as second:
            first.due = second.due = None  # they have been read
            response = client.post("/predict", files={"image": images[0]})
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert "waiting" in response.json()["error"]
        assert client.post("/predict", files={"image": images[0]}).status_code == 200


def test_nothing_runs_for_a_client_that_went_away(client, images, monkeypatch):
    """One request runs and one is the next; the third one's client leaves, and the model never sees it."""
    body, headers = form(images[0])
    gone = client.metric("ppdet_http_requests_total", path="/predict", status="499")
    sizes, release = hold_model(client, monkeypatch)
    with client.batches(1, 0):
        first = [client.start(client.client.post("/predict", content=body, headers=headers)) for _ in range(2)]
        wait_until(lambda: len(sizes) == 2)
        messages = [{"type": "http.request", "body": body}, {"type": "http.disconnect"}]

        async def receive():
            while len(messages) == 1 and not client.service.batcher.waiting:
                await asyncio.sleep(0.01)
            return messages.pop(0)

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
        scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        client.run(create_app(client.service)(scope, receive, send))
        release.set()
        assert [request.result(PATIENCE).status_code for request in first] == [200, 200]
        assert client.post("/predict", content=body, headers=headers).status_code == 200
    assert sizes == [1, 1, 1] and client.service.admitted == 0  # the first two and the last
    assert client.metric("ppdet_http_requests_total", path="/predict", status="499") == gone + 1
    wait_until(lambda: client.service.slots.free == 16, "no slot stays in use")


def test_a_failing_model_tells_the_log_and_not_the_client(client, images, monkeypatch):
    failed = client.metric("ppdet_http_requests_total", path="/predict", status="500")
    monkeypatch.setattr(client.service.batcher, "run", lambda samples: 1 / 0)
    response = client.post("/predict", files={"image": images[0]})
    assert response.status_code == 500 and "division" not in response.text and "log" in response.json()["error"]
    assert response.headers["x-content-type-options"] == "nosniff"
    monkeypatch.undo()
    assert client.post("/predict", files={"image": images[0]}).status_code == 200
    assert f'path="/predict",status="500"}} {failed + 1}' in client.get("/metrics").text


def png_header(width, height):
    """A PNG whose header claims this size, without the pixels."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("image", "status", "reason"),
    [
        (b"", 400, "the image is an empty file"),
        (b"no image", 400, "not an image, or damaged; expected one of JPEG, PNG, WEBP, BMP, TIFF"),
        (b"GIF89a\x01\x00\x01\x00\x00\x00\x00", 400, "not an image, or damaged"),
        (png_header(40_000, 40_000), 413, "the image has more than 1000000 pixels"),
        (png_header(2**31 - 1, 2**31 - 1), 413, "the image has more than 1000000 pixels"),
        (png_header(1001, 1000), 413, "the image has more than 1000000 pixels"),
        (png_header(900, 900), 400, "the image cannot be decoded: "),
    ],
)
def test_images_that_are_none(client, image, status, reason):
    with client.settings(max_pixels=1_000_000):
        response = client.post("/predict", files={"image": image})
        assert response.status_code == status and reason in response.json()["error"]
        assert "\n" not in response.json()["error"]


def test_image_cut_short(client, images):
    response = client.post("/predict", files={"image": images[0][:-200]})
    assert response.status_code == 400 and response.json() == {
        "error": "the image cannot be decoded: the file is truncated"
    }


def test_request_larger_than_it_may_be(client):
    sent = []

    async def parts():
        for _ in range(1000):
            sent.append(1)
            yield b"x" * 1000

    with client.settings(max_body_mb=0.01):
        assert client.post("/predict", files={"image": b"x" * 11_000}).status_code == 413
        headers = {"Content-Type": "application/json"}
        response = client.post("/predict", content=parts(), headers=headers)  # chunked: no Content-Length
        assert response.status_code == 413 and response.json() == {"error": "the request is larger than 0.01 MiB"}
        assert len(sent) < 20  # of 1000: nobody read on
        assert client.service.admitted == 0


SMALL = base64.b64encode(b"x").decode()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 422, "send a form with the file"),
        (b"{}", 422, "image: Field required"),
        (b'{"image": 5}', 422, "image: Input should be a valid string"),
        (b'{"image": null}', 422, "image: "),
        (b'{"image": "%%%"}', 422, "image: not base64"),
        (b'{"image": "", "threshold": 0.5}', 400, "the image is an empty file"),
        (b'{"image": "eA==", "threshold": NaN}', 422, "threshold: "),
        (b'{"image": "eA==", "threshold": Infinity}', 422, "threshold: "),
        (b'{"image": "eA==", "threshold": -0.1}', 422, "threshold: Input should be greater than or equal to 0"),
        (b'{"image": "eA==", "threshold": "0.5"}', 422, "threshold: Input should be a valid number"),
        (b'{"image": "eA==", "threshold": true}', 422, "threshold: Input should be a valid number"),
        (b'{"image": "eA==", "treshold": 0.5}', 422, "treshold: Extra inputs are not permitted; expected threshold, "),
        (b'{"image": "eA==", "format": "gif"}', 422, "format: Input should be 'json', 'jpeg' or 'png'"),
        (json.dumps({"image": SMALL, "a\nb" * 1000: 1}).encode(), 422, "a ba ba b"),
    ],
)
def test_json_that_does_not_fit(client, body, status, reason):
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert reason in error and len(error) <= 200 and "\n" not in error


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"content": b"x"}, 415, "a form (curl -F image=@FILE)"),
        ({"content": b"x", "headers": {"Content-Type": "image/gif"}}, 415, "curl -H 'Content-Type: image/jpeg' --"),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "of JSON (application/json)"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "Missing boundary"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=a"}}, 400, "multipart"),
        (
            {"content": b"--a\r\n\r\n\r\n--a--", "headers": {"Content-Type": "multipart/form-data; boundary=a"}},
            400,
            "Content-Disposition",
        ),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data; charset=\0; boundary=a"}}, 4, ""),
        ({"data": {"image": "cells.jpg"}, "files": {"other": b""}}, 422, "image is text"),
        ({"files": {"picture": b"x"}}, 422, "image is missing"),
        ({"files": [("image", b"x"), ("image", b"x")]}, 400, "Too many files"),
        ({"files": {"image": b"x"}, "data": {"threshold": "high"}}, 422, "threshold: Input should be a valid number"),
        ({"files": {"image": b"x"}, "data": {"threshold": "nan"}}, 422, "threshold: "),
        ({"files": {"image": b"x"}, "data": {"threshold": ["0.1", "0.2"]}}, 422, "threshold: given twice"),
        ({"files": {"image": b"x"}, "data": {"size": "3"}}, 422, "size: Extra inputs"),
        ({"files": {"image": b"x"}, "params": {"size": "3"}}, 422, "size: Extra inputs"),
        ({"files": {"image": b"x"}, "params": {"format": "bmp"}}, 422, "format: "),
    ],
)
def test_forms_that_do_not_fit(client, request_, status, reason):
    response = client.post("/predict", **request_)
    # Versions of Starlette tell one of them from an empty form, or do not.
    assert response.status_code == status or (status == 4 and response.status_code in (400, 422)), response.text
    assert reason in response.json()["error"]


def test_form_of_the_tests_is_one(client, images):
    body, headers = form(images[0], threshold="0.45")
    assert client.post("/predict", content=body, headers=headers).status_code == 200


def test_answers_have_what_is_above_the_thresholds_of_the_model(client, images, monkeypatch):
    service = client.service
    every = client.post("/predict?threshold=0", files={"image": images[0]}).json()["detections"]
    scores = {label: sorted(one["score"] for one in every if one["class"] == label) for label in (0, 1)}
    middle = {label: found[len(found) // 2] for label, found in scores.items() if found}
    limits = np.array([middle.get(label, 0.5) for label in (0, 1)])
    monkeypatch.setattr(service, "thresholds", limits - 1e-5)  # answers have rounded scores
    found = client.post("/predict", files={"image": images[0]}).json()["detections"]
    assert found == [one for one in every if one["score"] >= limits[one["class"]]] and 0 < len(found) < len(every)
    assert [one["threshold"] for one in client.get("/model").json()["classes"]] == pytest.approx(limits - 1e-5)
