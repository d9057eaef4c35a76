"""Descriptors: how many connections the system allows, and what happens without any left."""

import asyncio
import errno
import subprocess
import sys

import pytest

from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.server import Server
from ppdet.deploy.serving.service import Service


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
