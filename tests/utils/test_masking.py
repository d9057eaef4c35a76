"""Addresses without passwords, tokens and signatures."""

import shlex

import pytest

from ppdet.core.command_line import fail
from ppdet.utils.errors import ConfigError, DataError
from ppdet.utils.masking import is_masked, masked, masked_values


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host:8080/a.pdparams", "https://***@host:8080/a.pdparams"),
        ("http://secret@host/x: no such file", "http://***@host/x: no such file"),
        ("see s3://b/x?X-Amz-Signature=secret&y=1, and more", "see s3://b/x?***, and more"),
        ("{'a': 'https://me:se@cr/et@host/x?sig=secret'}", "{'a': 'https://***@host/x?***'}"),
        ('["https://host/a?secret", "me@example.org"]', '["https://host/a?***", "me@example.org"]'),
        # Quotes may stand in a password, a path and a query, and a shell's word has them quoted once more.
        ("https://me:it's\"secret@host/a", "https://***@host/a"),
        ("https://host/it's/a?sig='secret'secret: no such file", "https://host/it's/a?***: no such file"),
        (shlex.join(["-o", "weights=https://me:it's\"secret@host/a?b='secret"]), "-o 'weights=https://***@host/a?***'"),
        ("https://a:secret@h/1 and https://b:secret@h/2", "https://***@h/1 and https://***@h/2"),
        ("(https://host/x?sig=secret): the server answers 403", "(https://host/x?***): the server answers 403"),
        ("https://host/a/b.pdparams", "https://host/a/b.pdparams"),
        ("what? me@example.org", "what? me@example.org"),
    ],
)
def test_what_is_hidden(text, shown):
    assert masked(text) == shown == masked(shown) and "secret" not in shown
    assert masked_values({"a": [text, 3, None], "b": {"c": text}}) == {"a": [shown, 3, None], "b": {"c": shown}}


@pytest.mark.parametrize("part", ["a://", "a://?", "a://@", "a", "a://b "])
def test_a_long_text_does_not_take_long(part):
    """A configuration from a stranger may have as much: where the time is quadratic, this takes hours."""
    text = part * (10**6 // len(part))
    assert len(masked(text)) <= len(text) + 9


def test_what_was_masked_is_known():
    for url in ("https://me:x@host/a", "https://host/a?b=c", "https://host/a?b=c.)"):
        assert is_masked(masked(url)) and not is_masked(url)


def test_errors_hide_it_too(capsys):
    url = "https://me:secret@host/a?sig=secret"
    for error in (DataError(f"{url}: missing"), ConfigError(f"weights: {url}")):
        assert "secret" not in str(error)
    with pytest.raises(SystemExit):
        fail(f"{url}: No such file")
    assert capsys.readouterr().err == "error: https://***@host/a?***: No such file\n"
