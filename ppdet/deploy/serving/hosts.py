"""Whom the server answers: requests that name this server, from no page or from its own page.

Any page in a browser may send requests to 127.0.0.1, and its owner may let the page's own name point there (DNS
rebinding), so that the browser takes the server for a part of the page. Such requests carry the page's name in the
header Host or Origin. Addresses are harmless: only a name can be made to point elsewhere.
"""

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable

from starlette.datastructures import Headers

from ppdet.deploy.serving.limits import Refused

READING = ("GET", "HEAD", "OPTIONS")
HOST = re.compile(r"(\[[0-9a-f:.%a-z]*\]|[^\[\]:/@\s]*)(?::([0-9]*))?")
ORIGIN = re.compile(r"(https?)://(.+)")
PORTS = {"http": "80", "https": "443"}


def own_names(host: str) -> frozenset[str]:
    """The names that this server has without being told more: localhost, this machine's name, and that of --host."""
    return normal_names(("localhost", socket.gethostname(), host))


def normal_names(names: Iterable[str]) -> frozenset[str]:
    """Names of hosts as `split_host` gives them."""
    return frozenset(split_host(name)[0] for name in names) - {""}


def split_host(text: str) -> tuple[str, str]:
    """The name (lower case, without a final dot) or address in a Host header, and the port; "" for what is missing."""
    match = HOST.fullmatch(text.strip().lower())
    return (match[1].rstrip("."), match[2] or "") if match else ("", "")


def is_address(name: str) -> bool:
    """Whether this is an IP address: an IPv6 one in brackets, or a name whose last part is a number."""
    if name.startswith("["):
        try:
            return ipaddress.IPv6Address(name[1:-1]).scope_id is None  # in a Host header a zone has no meaning
        except ValueError:
            return False
    # No domain ends in a number; browsers take 127.1 and 0x7f.1 for addresses too.
    return re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]) is not None


def check_host(headers: Headers, known: Collection[str]) -> None:
    """Check the name that a request uses for this server. A request without one comes from no browser.

    Raises:
        Refused: the header Host is neither an address nor one of the known names.
    """
    for text in headers.getlist("host"):
        name, _ = split_host(text)
        if not (is_address(name) or name in known):
            reason = f"this server is not known as {text[:80]!r}"
            raise Refused(421, f"{reason}: use its address, or start it with --trusted_hosts NAME")


def check_origin(method: str, headers: Headers, trusted: Collection[str]) -> None:
    """Check that a request that computes something comes from no page, or from a page of this server or a trusted one.

    Raises:
        Refused: the headers Origin or Sec-Fetch-Site tell of another page.
    """
    if method in READING:
        return
    host = split_host(headers.get("host", ""))
    origins = headers.getlist("origin")
    for text in origins:
        match = ORIGIN.fullmatch(text.strip().lower())
        name, port = split_host(match[2]) if match else ("", "")
        default = PORTS[match[1]] if match else ""
        same = name == host[0] and (port or default) == (host[1] or default)
        if not name or not (same or name in trusted):
            reason = f"a page of {text[:80]!r} may not use this server"
            raise Refused(403, f"{reason}; a proxy must pass the header Host on, or start with --trusted_hosts NAME")
    if not origins and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refused(403, "a page of another site may not use this server")
