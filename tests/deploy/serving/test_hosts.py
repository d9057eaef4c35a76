"""Requests of pages that use this server under another name, or from another origin."""

import socket

import pytest
from starlette.datastructures import Headers

from ppdet.deploy.serving.hosts import check_host, check_origin, normal_names, own_names
from ppdet.deploy.serving.limits import Refused

KNOWN = own_names("detector.lan") | normal_names(["Shop.example."])
ADDRESSES = ["127.0.0.1", "127.0.0.1:8080", "10.1.2.3:1", "127.1", "0x7f.1", "2130706433", "[::1]", "[2001:DB8::1]:80"]
NAMES = ["localhost", "LOCALHOST:8080", "localhost.", "detector.lan:99", "shop.example", socket.gethostname()]
STRANGERS = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.localhost",
    "user@127.0.0.1",
    "127.0.0.1,evil.example",
    "127.0.0.1:port",
    "[::1].evil.example",
    "[evil]",
    "[::1%25evil.com]",
    "xn--e28h",
    "",
    "\x1b[31mevil",
]


@pytest.mark.parametrize("host", [*ADDRESSES, *NAMES])
def test_hosts_that_are_this_server(host):
    check_host(Headers({"host": host}), KNOWN)


@pytest.mark.parametrize("host", STRANGERS)
def test_hosts_that_are_not(host):
    with pytest.raises(Refused, match="--trusted_hosts NAME") as caught:
        check_host(Headers({"host": host}), KNOWN)
    assert caught.value.status == 421 and caught.value.reason.isprintable()


def test_requests_without_a_host_come_from_no_browser():
    check_host(Headers({}), KNOWN)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://localhost", "localhost"),
        ("http://LOCALHOST:80", "localhost"),
        ("http://localhost", "localhost:80"),
        ("https://detector.lan", "detector.lan"),  # behind a proxy that does TLS
        ("https://detector.lan", "detector.lan:443"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("https://shop.example", "127.0.0.1:8080"),  # trusted; the proxy does not pass the host on
    ],
)
def test_origins_that_are_this_server(origin, host):
    check_origin("POST", Headers({"origin": origin, "host": host}), {"shop.example"})


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://",
        "file://",
        "http://127.0.0.1",
        "http://127.0.0.1:3000",
        "https://127.0.0.1:80",
        "http://localhost:8080",
        "http://127.0.0.1:8080.evil.example",
        "http://127.0.0.1:8080@evil.example",
        "http://127.0.0.1:8080/",
        "http://127.0.0.1:8080, http://evil.example",
        "chrome-extension://abcdef",
        "ws://127.0.0.1:8080",
    ],
)
def test_origins_that_are_not(origin):
    headers = Headers({"origin": origin, "host": "127.0.0.1:8080"})
    with pytest.raises(Refused) as caught:
        check_origin("POST", headers, {"shop.example"})
    assert caught.value.status == 403
    check_origin("GET", headers, {"shop.example"})  # another origin cannot read the answer


def test_each_of_two_origins_must_be_right():
    raw = [(b"host", b"a:1"), (b"origin", b"http://a:1"), (b"origin", b"http://evil.example")]
    with pytest.raises(Refused):
        check_origin("POST", Headers(raw=raw), set())


def test_what_browsers_say_without_an_origin():
    for site in ("none", "same-origin"):
        check_origin("POST", Headers({"host": "127.0.0.1", "sec-fetch-site": site}), set())
    for site in ("cross-site", "same-site", "new"):
        with pytest.raises(Refused, match="another site"):
            check_origin("POST", Headers({"host": "127.0.0.1", "sec-fetch-site": site}), set())
