"""Addresses shown and recorded without the secrets in them: user and password, and tokens and signatures after `?`."""

import re
from typing import Any

HIDDEN = "***"
_AFTER = r"'\":;,.)\]}"  # what may follow an address in a sentence
_USER = re.compile(r"(\w://)\S*@")
_QUERY = re.compile(rf"(\w://[^\s?]*\?)\S*[^\s{_AFTER}]")
_MASKED = re.compile(rf"://{re.escape(HIDDEN)}@|\?{re.escape(HIDDEN)}[{_AFTER}]*$")


def masked(text: str) -> str:
    """Return a text in which `***` stands for user and password of each address, and for everything after its `?`.

    A password may contain any characters but spaces, also quotes: up to the last `@` of a word everything is hidden,
    and so is what follows an address without a space, as in JSON.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


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
