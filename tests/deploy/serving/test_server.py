"""Descriptors: how many connections the system allows, and what happens without any left."""

import asyncio
import errno
import subprocess
import sys

import pytest

from ppdet.deploy.serve import parse_arguments
from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.server import Server, bound_socket
from ppdet.deploy.serving.service import Service
from ppdet.utils.errors import DeployError


def test_the_limit_of_open_files_is_raised_or_told():
    pytest.importorskip("resource", reason="this system has no limit of open files per process")
    code = """
import resource
from ppdet.deploy.serving.server import allow_connections
hard = 2000
resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
print(allow_connections(16), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(allow_connections(512), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(allow_connections(100_000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:3] == ["16 500", "512 896", "1616 2000"]
    code = code.replace("2000", "64").replace("(500, hard)", "(64, hard)")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.endswith("(ulimit -n) is 64, but the server needs 400 or more\n")


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "e\udc80"])
def test_what_is_no_name_of_a_host(host):
    with pytest.raises(DeployError, match=r"this is no name of a host, and no address$"):
        bound_socket(host, 0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("--max_batch", "100000000"), ("--max_connections", "1e22"), ("--max_queue", "9" * 5000)],
        *[("--timeout_s", "1e30"), ("--max_body_mb", "1e305"), ("--max_delay_ms", "1e9"), ("--cpu_threads", "\u00b2")],
    ],
)
def test_options_have_bounds(capsys, option, value):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--model_dir", "x", option, value])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: argument {option}: expected a " in line and " to " in line and len(line) < 200


def test_the_log_tells_of_refused_requests(served, caplog):
    """Also of those that the application itself refuses, and only once."""
    server = Server(Service(ServedModel(served), Settings(token="secret")))

    async def ask(method, path, **headers):
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "raw_path": path.encode()}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        got = []

        async def send(message):
            got.append(message)

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        await server.config.app({**scope, "headers": pairs}, receive, send)
        return got[0]["status"]

    async def all_of_them():
        known = {"authorization": "Bearer secret"}
        found = [await ask("POST", "/predict") for _ in range(300)]
        found += [await ask("GET", "/", host="evil.example"), await ask("GET", "/predict", **known)]
        return [*found, await ask("GET", "/nowhere", **known), await ask("POST", "/predict", **known)]

    assert asyncio.run(all_of_them()) == [*[401] * 300, 421, 405, 404, 415]
    server.notices.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "300 requests refused: 401 Unauthorized",
        "1 requests refused: 421 Misdirected Request",
        "1 requests refused: 405 Method Not Allowed",
        "1 requests refused: 404 Not Found",
        "1 requests refused: 415 Unsupported Media Type",
    ]


def test_no_descriptor_for_a_connection_is_told_once(served, caplog):
    server = Server(Service(ServedModel(served), Settings()))
    error = OSError(errno.EMFILE, "Too many open files")
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(server.on_loop_error)
    for _ in range(50):
        loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
    assert caplog.text == ""
    server.connections.sweep()
    loop.call_exception_handler({"message": "another mistake", "exception": ValueError("of ours")})
    loop.close()
    assert [record.getMessage().split("\n")[0] for record in caplog.records] == [
        "50 times no connection could be accepted: too many open files",
        "another mistake",
    ]
