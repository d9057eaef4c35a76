"""What is a URL."""

import pytest

from ppdet.utils.disk.object_storage import is_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a.png", True),
        ("zip://*.png::s3://bucket/a.zip", True),
        ("simplecache::gs://bucket/a.png", True),
        ("file:///a.png", True),
        ("C://images/a.png", False),
        ("C:\\images\\a.png", False),
        ("a/b://c.png", False),
        ("/data/http://a.png", False),
        ("://", False),
        ("a.png", False),
        ("", False),
    ],
)
def test_urls(text, expected):
    assert is_url(text) is expected
