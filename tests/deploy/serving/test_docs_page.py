"""What a value may be, and what it means, are told apart on the page /docs."""

import json
import re
from html import unescape

import pytest

from ppdet.deploy.serving.app import OPEN_PATHS
from ppdet.deploy.serving.docs_page import docs_page, schema_html
from ppdet.deploy.serving.openapi import describe_paths


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string"}, "string"),
        ({"type": "integer", "minimum": 0, "description": "in pixels"}, "integer, at least 0: in pixels"),
        (
            {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5, "description": "minimum score"},
            "number, at least 0, at most 1, default 0.5: minimum score",
        ),
        ({"type": "string", "maxLength": 200, "description": "one line"}, "string, at most 200 characters: one line"),
        ({"enum": ["json", "png"], "description": "of the answer"}, "json or png: of the answer"),
        (
            {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"},
            "the bytes of a file",
        ),
        (
            {"type": "string", "contentMediaType": "image/png", "contentEncoding": "base64", "description": "an image"},
            "the bytes of a file in base64: an image",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "if known"}, "string: if known"),
        (
            {"type": "array", "items": {"$ref": "#/components/schemas/Class"}, "description": "best first"},
            "list of Class: best first",
        ),
        (
            {"type": "array", "items": {"type": "number"}, "maxItems": 4, "description": "x1, y1, x2, y2"},
            "list of number, 4 of them: x1, y1, x2, y2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:30],
)
def test_a_value_and_its_meaning(schema, text):
    assert unescape(re.sub("<[^>]*>", "", schema_html(schema))) == text


def test_nothing_of_the_whole_page_runs_together():
    """The type of a value, in italics or as a link, is followed by a colon, or by nothing."""
    page = docs_page(describe_paths(OPEN_PATHS, has_token=True)).decode()
    cards = page[page.index('<section class="card"') :]
    types = re.findall(r"(?:</em>|<a href=\"#\w+\">\w+</a>)(.{0,40})", cards)
    assert len(types) > 40
    assert [rest for rest in types if not rest.startswith((": ", "<", " <a"))] == []
