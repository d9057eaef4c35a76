"""The command as users type it: a process that is loaded, attacked and told to end."""

import asyncio
import base64
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from patience import PATIENCE, wait_until
from serving import ROOT, ServerProcess, form
from soak import hostile_requests
from soak.server_load import Killer, Load

from ppdet.deploy import Detector, serve
from ppdet.deploy.serving import server as server_module
from ppdet.deploy.serving.server import bound_socket
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DeployError

CLIENTS = 12


@pytest.fixture(scope="module")
def server(served, tmp_path_factory):
    options = ["--max_body_mb", "0.5", "--max_pixels", "100000", "--max_delay_ms", "500"]
    with ServerProcess(served, tmp_path_factory.mktemp("log") / "log", *options) as server:
        yield server


def metric(server, name):
    text = server.request("GET", "/metrics")[1].decode()
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.M))


def test_load(server, served, images):
    """32 clients: every one gets its own image's detections, and batches form."""
    expected = [len(Detector(served).predict(image).above(0.45)) for image in images]
    with ThreadPoolExecutor(32) as pool:
        order = [number % 4 for number in range(160)]
        answers = list(pool.map(lambda number: server.predict(images[number], threshold="0.45"), order))
    assert [len(answer["detections"]) for answer in answers] == [expected[number] for number in order]
    assert metric(server, "ppdet_batch_size_sum") >= 160
    assert metric(server, "ppdet_batch_size_sum") / metric(server, "ppdet_batch_size_count") > 1.5


def test_attacks_and_the_death_of_a_process_cost_no_good_request(server, served, images, monkeypatch):
    """A short form of tests/soak/server.py: good answers are those of the detector, and no attack is a failure."""
    monkeypatch.setattr(hostile_requests, "HOLD", 0.2)  # seconds
    detector = Detector(served, "paddle", threads=1)
    load = Load(server, [(image, detector.predict(image)) for image in images], hostile=0.5, seed=0, token=None)
    load.attacking.set()
    killer = Killer(server, PATIENCE, random.Random(0))
    threads = load.start(4)
    killer.next = 0.0
    try:
        wait_until(
            lambda: all(load.outcomes.values()) and not (killer.tick() or killer.waiting) and len(load.answers) > 9
        )
    finally:
        load.stopped.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert load.lost == load.wrong == []
    failed = {name: found for name, found in load.outcomes.items() if found.keys() & {-1, 500}}
    assert failed == {} and "Traceback" not in server.log.read_text()


def raw(server, data, close=False):
    """Send raw bytes; return the status of the answer, 0 if there was no answer."""
    with socket.create_connection(server.address, timeout=PATIENCE) as connection:
        connection.sendall(data)
        if close:
            connection.shutdown(socket.SHUT_WR)
            return 0
        answer = connection.recv(65536)
    return int(answer.split()[1]) if answer else 0


def malformed(images):
    """20 kinds of malformed requests: name, and a function that sends one and returns the status."""
    image = images[0]
    text = base64.b64encode(image).decode()

    def post(body, headers, path="/predict"):
        return lambda server: server.request("POST", path, body, headers)[0]

    def as_json(content):
        return post(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def chunked(server):
        parts = (b"x" * 50_000 for _ in range(40))
        connection = server.connect()
        connection.request("POST", "/predict", parts, {"Content-Type": "application/json"}, encode_chunked=True)
        status = connection.getresponse().status
        connection.close()
        return status

    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    form_type = {"Content-Type": "multipart/form-data; boundary=a"}
    return {
        "no image": post(*form(b"this is no image")),
        "empty image": post(*form(b"")),
        "image cut short": post(*form(image[: len(image) // 2])),
        "damaged image": post(*form(image[:100] + b"\0" * 3000 + image[3100:])),
        "header of a bomb": post(*form(bomb())),
        "other field": post(*form(image, name="picture")),
        "unknown option": post(*form(image, size="3")),
        "threshold of text": post(*form(image, threshold="high")),
        "threshold that is no number": post(*form(image, threshold="nan")),
        "broken form": post(b"--a\r\nnonsense", form_type),
        "form without an end": post(form(image)[0][:-30], form(image)[1]),
        "too large by its header": post(b"x" * 600_000, {"Content-Type": "application/json"}),
        "too large, chunked": chunked,
        "broken JSON": post(b'{"image": ', {"Content-Type": "application/json"}),
        "deep JSON": post(b"[" * 50_000, {"Content-Type": "application/json"}),
        "JSON of another type": as_json({"image": 5}),
        "JSON with a wrong threshold": as_json({"image": text, "threshold": 7}),
        "no base64": as_json({"image": "%" + text}),
        "another content": post(image, {"Content-Type": "image/gif"}),
        "a bomb as the whole body": post(bomb(), {"Content-Type": "image/png"}),
        "cut short as the whole body": post(image[:-30], {"Content-Type": "application/octet-stream"}),
        # More than was announced: what is over is another request, and a wrong one.
        "wrong length": lambda server: raw(server, head + b"Content-Length: 2\r\n\r\n{}" + b"\0" * 100),
    }


def bomb():
    """A PNG of a few bytes that says it has 900 million pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0" * 50


def test_malformed_requests(server, images):
    kinds = malformed(images)
    assert len(kinds) == 22

    def send(times):
        with ThreadPoolExecutor(8) as pool:
            names = [name for _ in range(times) for name in kinds]
            return list(zip(names, pool.map(lambda name: kinds[name](server), names)))

    for _ in range(20):
        raw(server, b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nhalf", close=True)
    send(5)  # the allocator has what it needs
    before = server.resident_bytes()
    answers = send(10)
    assert len(answers) == 220
    assert {name: status for name, status in answers if not 400 <= status < 500} == {}
    assert server.resident_bytes() - before < 15e6
    assert server.process.poll() is None and server.predict(images[0])["detections"]
    assert metric(server, "ppdet_requests_in_flight") == 0  # /metrics itself is none of them
    log = server.log.read_text()
    assert "Traceback" not in log, log[-3000:]


class LoadClient(threading.Thread):
    """Sends one request after the other until an answer says that the connection ends with it."""

    def __init__(self, server, image, keep_alive):
        super().__init__()
        self.server = server
        self.body, self.headers = form(image)
        self.keep_alive = keep_alive
        self.answered = 0
        self.end = ""

    def run(self):
        connection = self.server.connect()
        while not self.end:
            try:
                connection.request("POST", "/predict", self.body, self.headers)
                response = connection.getresponse()
                content = json.loads(response.read())
                if response.status != 200 or not content["detections"]:
                    self.end = f"lost: {response.status} {content}"
                elif response.getheader("connection") == "close":
                    self.end = "told"
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.end = f"lost: {error!r}"
            if not self.keep_alive:
                connection.close()


def test_no_accepted_request_is_lost_at_the_end(served, images, tmp_path):
    with ServerProcess(served, tmp_path / "log", patient=True) as server:
        body, headers = form(images[0])
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode()
        silent, half = (socket.create_connection(server.address, timeout=PATIENCE) for _ in range(2))
        half.sendall(head + body[:1000])
        clients = [LoadClient(server, images[number % 4], number % 2 == 0) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        wait_until(lambda: any(client.end for client in clients) or min(client.answered for client in clients) >= 3)
        assert not any(client.end for client in clients)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "ending: finishing" in server.log.read_text())
        half.sendall(body[1000:])
        silent.sendall(head + body)
        for connection in (half, silent):
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200 and response.getheader("connection") == "close"
            assert json.loads(response.read())["detections"]
        for client in clients:
            client.join(PATIENCE)
        assert {client.end for client in clients} == {"told"}
        assert server.process.wait(timeout=PATIENCE) == 0
        assert "ended" in server.log.read_text()


def test_token_and_connections_in_the_systems_queue(served, images, tmp_path):
    """The process stands still while clients connect and send; it has not seen them when it is told to end.

    The model sees two views of each image.
    """
    expected = Detector(served, "paddle", threads=1, tta=TTA((1.0,))).predict(images[0]).above(0.4)
    with ServerProcess(served, tmp_path / "log", "--tta", "--tta_scales", "1", token="abc") as server:
        body, headers = form(images[0], threshold="0.4")
        assert server.request("POST", "/predict", body, headers)[0] == 401
        assert server.request("GET", "/metrics")[0] == 401 and server.request("GET", "/healthz")[0] == 200
        assert b"abc" not in Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
        headers["Authorization"] = "Bearer abc"
        server.process.send_signal(signal.SIGSTOP)
        connections = [server.connect() for _ in range(20)]
        for connection in connections:
            connection.request("POST", "/predict", body, headers)
        server.process.send_signal(signal.SIGINT)
        server.process.send_signal(signal.SIGCONT)
        responses = [connection.getresponse() for connection in connections]
        assert [response.status for response in responses] == [200] * 20
        found = [[one["score"] for one in json.loads(response.read())["detections"]] for response in responses]
        assert len(expected) and found == [pytest.approx(np.sort(expected.scores)[::-1].tolist(), abs=1e-3)] * 20
        assert server.process.wait(timeout=PATIENCE) == 0
        assert "test-time augmentation: 2 views, scales 1, flip horizontal" in server.log.read_text()


def test_answers_on_an_open_connection_are_sent_at_once():
    """Without TCP_NODELAY each answer but the first waits for the client's acknowledgement, which comes after 40 ms."""
    seen = []

    def note(reader, writer):
        seen.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def connect(listener):
        async with await asyncio.start_server(note, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            await reader.read()
            writer.close()

    asyncio.run(connect(bound_socket("127.0.0.1", 0)))
    assert seen and seen[0] != 0


def fails_with(*options, **environment):
    command = [sys.executable, "-m", "ppdet.deploy.serve", *options]
    environment = {**os.environ, **environment}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    return result.stderr


def test_options_of_windows_reach_the_service(served, monkeypatch):
    services = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(server_module, "bound_socket", lambda *_: None)
    monkeypatch.setattr(server_module, "allow_connections", lambda wanted: wanted)
    monkeypatch.setattr(server_module, "Server", lambda service: services.append(service) or SimpleNamespace(run_on=id))
    given = ["--model_dir", str(served)]
    options = ["--slice_infer", "--slice_size", "480", "640", "--match_threshold", "0.5", "--max_windows", "9"]
    for arguments in ([*given, *options], [*given, "--slice_infer"], given):
        serve.serve(serve.parse_arguments(arguments))
    assert [service.served.slicing for service in services] == [
        Slicing(size=(480, 640), match_threshold=0.5),
        Slicing(),
        None,
    ]
    assert [service.settings.max_windows for service in services] == [9, 256, 256]
    for mistake, message in (
        (["--max_windows", "9"], "--max_windows has no effect without --slice_infer"),
        (["--slice_size", "480", "640"], "--slice_size has no effect without --slice_infer"),
        (["--slice_infer", "--tta"], "takes whole images"),
    ):
        with pytest.raises(DeployError, match=message):
            serve.serve(serve.parse_arguments([*given, *mistake]))


def test_mistakes_are_one_line(served, tmp_path):
    (tmp_path / "token").write_text(" \n")
    assert "no such file" in fails_with("--model_dir", str(tmp_path), "--port", "0")
    assert "No such file" in fails_with("--model_dir", str(served), "--token_file", str(tmp_path / "none"))
    assert "visible ASCII" in fails_with("--model_dir", str(served), "--token_file", str(tmp_path / "token"))
    assert "visible ASCII" in fails_with("--model_dir", str(served), PPDET_TOKEN="")
    assert "--tta_flip has no effect without --tta" in fails_with("--model_dir", str(served), "--tta_flip", "both")
    assert "expected a number from 0.001 to 86400" in fails_with("--model_dir", str(served), "--timeout_s", "nan")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1, port {port}" in fails_with("--model_dir", str(served), "--port", port)


def test_a_public_address_without_a_token_is_noticed(tmp_path):
    options = ["--model_dir", str(tmp_path), "--port", "0", "--host"]
    assert "there is no token" in fails_with(*options, "0.0.0.0")
    assert "there is no token" not in fails_with(*options, "0.0.0.0", PPDET_TOKEN="abc")
    assert "there is no token" not in fails_with(*options, "localhost")


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "ppdet.deploy.serve", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "examples:" in result.stdout and "--max_delay_ms" in result.stdout
    assert not re.search(r"\b(paddle|cv2|numpy|fastapi|uvicorn)$", result.stderr, re.M)


def test_a_model_that_cannot_run_ends_the_server(served, tmp_path):
    code = "from ppdet.deploy.detector import Detector\nDetector.run = lambda self, samples: 1 / 0\n"
    (tmp_path / "broken_run.py").write_text(code)
    options = ["--model_dir", str(served), "--port", "0", "--import", str(tmp_path / "broken_run.py")]
    assert fails_with(*options).endswith("error: the model cannot run: division by zero\n")
    assert "backend is 'theano'; it must be auto" in fails_with(*options, "--backend", "theano")


def children(pid):
    """The worker processes of a server."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(path)
    return found


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="the test looks at processes in /proc")
def test_a_server_whose_processes_are_all_stuck_ends_in_time(served, images, tmp_path):
    with ServerProcess(served, tmp_path / "log", "--timeout_s", "1") as server:
        workers = children(server.process.pid)
        assert len(workers) >= 3
        for path in workers:
            os.kill(int(path.name), signal.SIGSTOP)
        body, headers = form(images[0])
        connection = server.connect()
        connection.request("POST", "/predict", body, headers)
        assert server.request("GET", "/healthz")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert connection.getresponse().status == 504
        assert server.process.wait(timeout=PATIENCE) == 0
        wait_until(lambda: not any(path.exists() for path in workers))
        assert "ended" in server.log.read_text() and "Traceback" not in server.log.read_text()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="the test looks at processes in /proc")
def test_a_second_interrupt_ends_it_at_once_and_leaves_no_process(served, tmp_path):
    """While the model still loads, its process is stopped, and a connection keeps the server from ending by itself."""
    server = ServerProcess(served, tmp_path / "log", patient=True)
    try:
        wait_until(lambda: "listening" in server.log.read_text())
        workers = wait_until(lambda: children(server.process.pid))
        for path in workers:
            os.kill(int(path.name), signal.SIGSTOP)
        server.is_ready()
        with socket.create_connection(server.address, timeout=PATIENCE):
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: "ending: finishing" in server.log.read_text())
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(timeout=PATIENCE) == 130
        wait_until(lambda: not any(path.exists() for path in workers))
        assert "Traceback" not in server.log.read_text()
    finally:
        server.__exit__()
