"""/openapi.json, /docs and /model say what the server does."""

import json
import re
from html.parser import HTMLParser

import jsonschema
import pytest
from fastapi.openapi.models import OpenAPI

import ppdet
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.deploy.serving import app, limits, request
from ppdet.deploy.serving.openapi import ERRORS, describe_paths

BEARER = {"Authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def document(running):
    with running.settings(token="s3cret"):
        return running.get("/openapi.json").json()


def conforms(document, schema, content):
    """Check an answer against a schema of the document; properties that it does not name are refused."""
    schemas = json.loads(json.dumps(document["components"]["schemas"]))
    for one in schemas.values():
        one.setdefault("additionalProperties", False)
    whole = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": schemas}}
    jsonschema.Draft202012Validator(whole).validate(content)


def references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_document_is_valid(document):
    parsed = OpenAPI.model_validate(document)  # FastAPI's model of OpenAPI 3.1
    assert parsed.openapi == "3.1.0" and parsed.info.version == ppdet.__version__
    for name, schema in document["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert name.isalpha()
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) > 10
    found = set(references(document))
    assert len(found) > 10
    for reference in found:
        value = document
        for key in reference.removeprefix("#/").split("/"):
            value = value[key]


def test_the_document_has_all_paths_bodies_and_options(document):
    parts_of_the_page = app.PAGE.keys() - {"/"}
    assert set(document["paths"]) == app.KNOWN_PATHS - parts_of_the_page
    operation = document["paths"]["/predict"]["post"]
    body = operation["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json", *request.RAW_TYPES}
    assert {one["name"] for one in operation["parameters"]} == set(request.Options.model_fields)
    assert set(body["multipart/form-data"]["schema"]["properties"]) == set(request.Body.model_fields)
    assert set(operation["responses"]["200"]["content"]) == set(request.MEDIA_TYPES)
    assert {int(status) for status in operation["responses"]} == {200, *ERRORS}
    for kind in limits.KINDS:
        assert kind in operation["description"]


def test_generators_of_clients_find_files_and_names(document):
    """Of a file, they know OpenAPI 3.0's format: binary. They name classes by title, and then by the name."""
    operation = document["paths"]["/predict"]["post"]
    bodies = {kind: content["schema"] for kind, content in operation["requestBody"]["content"].items()}
    pictures = operation["responses"]["200"]["content"]
    files = {kind: bodies[kind] for kind in request.RAW_TYPES} | {
        "application/octet-stream": bodies["multipart/form-data"]["properties"]["image"],
        **{kind: pictures[kind]["schema"] for kind in ("image/jpeg", "image/png")},
    }
    for kind, schema in files.items():
        assert (schema["type"], schema["format"], schema["contentMediaType"]) == ("string", "binary", kind)
    schemas = document["components"]["schemas"]
    assert bodies["application/json"] == {"$ref": "#/components/schemas/Request"}
    assert schemas["Request"]["properties"]["image"]["contentEncoding"] == "base64"
    assert "format" not in schemas["Request"]["properties"]["image"]
    assert all(schema.get("title", name) == name for name, schema in schemas.items())


def test_paths_that_need_the_token(client, document):
    with client.settings(token="s3cret"):
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                response = client.run(client.client.request(method.upper(), path))
                assert (response.status_code == 401) == (operation["security"] == [{"token": []}]), path
                assert ("401" in operation["responses"]) == (response.status_code == 401), path
                if response.status_code == 401 and method != "head":
                    conforms(document, "Error", response.json())
    closed = {path for path, methods in document["paths"].items() for one in methods.values() if one["security"]}
    assert closed == {"/predict", "/model", "/metrics"}
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    free = describe_paths(app.OPEN_PATHS, has_token=False)["paths"]
    for path, methods in free.items():
        for operation in methods.values():
            assert operation["security"] == []
            assert path == "/predict" or "401" not in operation["responses"]


def test_answers_are_as_the_document_says(client, document, images):
    conforms(document, "Prediction", client.post("/predict", files={"image": images[0]}).json())
    conforms(document, "Error", client.post("/predict", content=b"").json())
    for path, methods in document["paths"].items():
        if "get" in methods:
            response = client.get(path)
            [(kind, content)] = methods["get"]["responses"]["200"]["content"].items()
            assert response.status_code == 200 and response.headers["content-type"].split(";")[0] == kind
            if "$ref" in content.get("schema", {}):
                conforms(document, content["schema"]["$ref"].rpartition("/")[2], response.json())


def test_head_and_allow(client, document):
    for path in app.KNOWN_PATHS - {"/predict"}:
        get, head = client.get(path), client.run(client.client.head(path))
        assert head.status_code == get.status_code == 200
        if path != "/metrics":  # whose text changes
            assert head.headers == get.headers and int(head.headers["content-length"]) == len(get.content)
        refused = client.post(path)
        assert refused.status_code == 405 and set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}, path
    for method in ("GET", "HEAD", "PUT", "OPTIONS"):
        refused = client.run(client.client.request(method, "/predict"))
        assert refused.status_code == 405 and refused.headers["allow"] == "POST"


class Page(HTMLParser):
    """The tags of a page that must be closed, what it loads, and its links."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.links, self.ids = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert "style" not in found and not any(name.startswith("on") for name in found)
        self.open += [tag] if tag not in ("meta", "link") else []
        self.loads += [found["href"]] if tag == "link" else [found.get("src")] if tag in ("script", "img") else []
        self.links += [found["href"]] if tag == "a" else []
        self.ids |= {found.get("id")}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_needs_no_other_server(client, document):
    with client.settings(token="s3cret"):
        response = client.get("/docs")
    assert "script-src 'self'" in response.headers["content-security-policy"]
    page = Page(response.text)
    assert page.open == [] and page.loads == ["data:,", "page.css"]  # no scripts, and nothing from elsewhere
    assert {link.removeprefix("#") for link in page.links} <= page.ids | {"openapi.json"}
    for path, methods in document["paths"].items():
        assert f"<code>{'POST' if 'post' in methods else 'GET'} {path}</code>" in response.text
        assert re.search(rf" {re.escape(path)}</code> <span class=\"tag\">token<", response.text) is None or (
            path not in app.OPEN_PATHS
        )
    for status, text in ERRORS.items():
        assert f"<code>{status}</code></td><td>{text.replace(chr(39), '&#x27;')}" in response.text
    assert response.text.count('class="tag"') == 3 and "needs no token" not in response.text
    assert "This server needs no token." in client.get("/docs").text


def test_the_model(client, served):
    with client.settings(token="s3cret"):
        assert client.get("/model").status_code == 401
        content = client.get("/model", headers=BEARER).json()
    versions = read_infer_cfg(served)["versions"]
    assert content == {
        "name": "export",
        "architecture": "FCOS",
        "versions": {"ppdet": ppdet.__version__, "paddle": versions["paddle"]},
        "classes": [
            {"class": 0, "name": "red", "category_id": 3, "threshold": 0.5},
            {"class": 1, "name": "blue", "category_id": 7, "threshold": 0.5},
        ],
        "engine": "paddle",
        "device": "cpu",
        "precision": "fp32",
        # Images are resized to at most 64 x 160, in either direction, and padded to a multiple of 32.
        "input_size": {
            "usual": {"width": 160, "height": 64},
            "largest": {"width": 160, "height": 160},
            "fixed": False,
        },
        "threshold": 0.5,
    }


def test_a_model_that_says_little(client, monkeypatch):
    """Exports of PaddleDetection have no versions; without Resize any size may come; at first no engine is known."""
    service = client.service
    settings = {"Preprocess": [{"type": "Permute"}], "versions": 5}
    monkeypatch.setattr(service, "infer_cfg", settings)
    content = client.get("/model").json()
    assert content["versions"] == {"ppdet": None, "paddle": None} and content["architecture"] is None
    assert content["input_size"] is None
    monkeypatch.setattr(service, "info", None)
    response = client.get("/model")
    assert response.status_code == 503 and response.headers["retry-after"] == "1"
