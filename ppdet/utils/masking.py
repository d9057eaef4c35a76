"""Addresses shown and recorded without the secrets in them: user and password, and tokens and signatures after `?`."""

import re
from typing import Any

HIDDEN = "***"
AFTER = "'\":;,.)]}"  # what may follow an address in a sentence
_WORD, _START = re.compile(r"\S+"), re.compile(r"\w://")
_MASKED = re.compile(rf"://{re.escape(HIDDEN)}@|\?{re.escape(HIDDEN)}[{re.escape(AFTER)}]*$")


def masked(text: str) -> str:
    """Return a text in which `***` stands for user and password of each address, and for everything after its `?`.

    A password may contain any characters but spaces, also quotes: up to the last `@` of a word everything is hidden,
    and so is what follows an address without a space, as in JSON.
    """
    return _WORD.sub(_masked_word, text) if "://" in text else text


def _masked_word(found: re.Match[str]) -> str:
    """Return a text without spaces, masked. The time grows with its length only, however many addresses are in it."""
    word = found.group()
    address = _START.search(word)
    if address is None:
        return word
    start, at = address.end(), word.rfind("@", address.end())
    word = word if at < 0 else f"{word[:start]}{HIDDEN}{word[at:]}"
    shown, mark, query = word[start:].partition("?")
    hidden = query.rstrip(AFTER)
    return f"{word[:start]}{shown}{mark}{HIDDEN}{query[len(hidden) :]}" if hidden else word


def masked_values(value: Any) -> Any:
    """Return plain data (mappings, lists, scalars) with each text `masked`."""
    if isinstance(value, dict):
        return {key: masked_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked_values(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def is_masked(address: str) -> bool:
    """Whether an address is one that `masked` returned with something hidden, which leads nowhere."""
    return _MASKED.search(address) is not None
