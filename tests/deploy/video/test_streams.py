"""Videos and live pictures from a server that drops connections, stalls, asks for a password or sends other things."""

import base64
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from patience import wait_until
from toy import write_video

from ppdet.deploy.detector import Detector
from ppdet.deploy.video import detection
from ppdet.deploy.video import source as video_source
from ppdet.deploy.video.detection import detect_video
from ppdet.deploy.video.source import VideoSource
from ppdet.utils.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "s3cr%21t"
GRAYS = [20, 60, 100, 140, 180, 220]


class Server(ThreadingHTTPServer):
    """Answers each request of FFmpeg with the next of `answers`, functions that write to a connection; then with 404.

    Our own request, which asks what is there, gets the answer that the last request of FFmpeg got.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list = []
        self.last = None
        self.paths: list[str] = []
        self.is_over = threading.Event()

    def address(self, path: str = "live", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        is_question = self.headers["User-Agent"] == "ppdet"
        if not is_question:
            self.server.paths.append(self.path)
        if not (self.server.last if is_question else self.server.answers):
            self.send_error(404)
            return
        if b"ask" in self.path.encode() and "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        self.server.authorization = self.headers.get("Authorization")
        if not is_question:
            self.server.last = self.server.answers.pop(0)
        with contextlib.suppress(ConnectionError):  # who asks reads the head only
            self.server.last(self)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(video_source, "WAITS", (0, 0.01))
    monkeypatch.setattr(detection, "WAITS", (0, 0.01))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.is_over.set()
        server.shutdown()
        thread.join()


def pictures(values, stalls=False):
    """An answer as of a camera: Motion JPEG, and then the end of the connection, or nothing more."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for value in values:
            jpeg = cv2.imencode(".jpg", np.full((128, 192, 3), value, np.uint8))[1].tobytes()
            head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg)
            handler.wfile.write(head + jpeg + b"\r\n")
        if stalls:
            handler.server.is_over.wait()

    return answer


def content(data, length=None):
    """An answer with a file, or with its beginning."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:length])

    return answer


def gray(frame):
    return int(frame.image[120, 180, 0])


@pytest.mark.parametrize("stalls", [False, True])
def test_dropped_stream_is_opened_again(server, log, monkeypatch, stalls):
    monkeypatch.setattr(video_source, "READ_SECONDS", 2 if stalls else 10)
    server.answers = [pictures(GRAYS[:3], stalls), pictures(GRAYS[3:])]
    source = VideoSource(server.address(user=f"admin:{PASSWORD}@"))
    assert source.live and source.size == (128, 192)
    frames = list(source)
    assert [gray(frame) for frame in frames] == pytest.approx(GRAYS, abs=4)
    assert [frame.number for frame in frames] == list(range(6))
    seconds = [frame.seconds for frame in frames]
    assert seconds == sorted(seconds) and seconds[0] >= 0
    assert source.reconnected == 1 and source.is_lost
    name = server.address()
    assert f"{name}: no frame came after 3 frames; opening it again in 0 s (attempt 1 of 2)" in log.text
    assert f"{name}: frames come again (interruption 1)" in log.text
    assert f"{name}: no frame came after 6 frames; opening it again in 0.01 s (attempt 2 of 2)" in log.text
    assert PASSWORD not in log.text and "admin" not in log.text


def test_dropped_file_continues_where_it_was(server, tmp_path):
    values = [i * 5 for i in range(50)]
    data = write_video(tmp_path / "v.avi", values).read_bytes()
    server.answers = [content(data, len(data) // 2), content(data, len(data) // 3), content(data)]
    source = VideoSource(server.address("v.avi"))
    assert not source.live
    frames = list(source)
    assert [gray(frame) for frame in frames] == pytest.approx(values, abs=4)
    assert [frame.seconds for frame in frames] == pytest.approx([i / 12.5 for i in range(50)])
    assert source.reconnected == 1 and not source.is_lost and source.missing == 0 and len(server.paths) == 3


def test_file_that_tells_no_times_ends_at_its_end(server, tmp_path, log):
    """Frames without an index, such as bare JPEG or what browsers record: only the length in bytes tells an end."""
    data = b"".join(cv2.imencode(".jpg", np.full((128, 192, 3), gray, np.uint8))[1].tobytes() for gray in GRAYS)
    server.answers = [content(data), content(data)]
    source = VideoSource(server.address("ask/bäre.mjpeg", user=f"admin:{PASSWORD}@"))
    assert not source.live and source.announced == 0
    assert [gray(frame) for frame in source] == pytest.approx(GRAYS, abs=4)
    assert not source.is_lost and source.reconnected == 0 and len(server.answers) == 1
    assert "again" not in log.text and "if the connection breaks, it ends there" in log.text


def test_file_that_ends_before_its_length_is_opened_again_once(server, tmp_path, log):
    data = write_video(tmp_path / "v.avi", GRAYS * 5).read_bytes()
    server.answers = [content(data, len(data) // 2)] * 3
    source = VideoSource(server.address("v.avi"))
    frames = list(source)
    assert 0 < len(frames) < 30 and [frame.number for frame in frames] == list(range(len(frames)))
    assert not source.is_lost and len(server.answers) == 1
    assert f"it ends there again after {len(frames)} frames, which is its end" in log.text


def test_detections_of_a_lost_stream_are_kept(server, folder, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    server.answers = [pictures(GRAYS)]
    source = VideoSource(server.address("ask/cam?user=me&token=xyz", user=f"admin:{PASSWORD}@"))
    assert base64.b64decode(server.authorization.split()[1]) == b"admin:s3cr!t"
    with pytest.raises(DataError, match="no frame came any more, in 2 attempts to open it again") as error:
        detect_video(Detector(folder, "paddle", threads=1), source, tmp_path, save_results=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"{source.stem}.{kind}" for kind in ("jsonl", "mp4")]
    assert source.stem.startswith(f"127.0.0.1_{server.server_port}_ask_cam_")
    lines = [json.loads(line) for line in (tmp_path / names[0]).read_text().splitlines()]
    # Frames may have been left out, but not the last one.
    assert lines[-1]["frame"] == 5 and lines[-1]["detections"][0]["score"] == pytest.approx(220 / 255, abs=0.02)
    for secret in (PASSWORD, "admin", "token", "xyz"):
        assert secret not in str(error.value) + "".join(names)


def test_ctrl_c_ends_the_wait_for_a_stream(server, folder, tmp_path):
    server.answers = [pictures(GRAYS)]
    address = server.address(user=f"admin:{PASSWORD}@")
    command = [sys.executable, "deploy/python/infer.py", "--model_dir", folder, "--video_file", address,
               "--save_results", "--output_dir", tmp_path, "--cpu_threads", "1", "--backend", "paddle"]  # fmt: skip
    with open(tmp_path / "log", "w+") as output:
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=output, stderr=output)
        wait_until(lambda: process.poll() is not None or "(attempt 2 of 10)" in (tmp_path / "log").read_text())
        process.send_signal(signal.SIGINT)
        process.wait()
    log = (tmp_path / "log").read_text()
    assert process.returncode == 0 and "stopped after" in log and "Traceback" not in log, log
    assert PASSWORD not in log and "admin" not in log
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".jsonl", ".mp4"}


def test_answer_that_never_comes(server, monkeypatch):
    monkeypatch.setattr(video_source, "OPEN_SECONDS", 1)
    server.answers = [lambda handler: handler.server.is_over.wait()]
    with pytest.raises(DataError, match="the server did not answer within 1 s"):
        VideoSource(server.address())


def page(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html; charset=utf-8")
    handler.send_header("Content-Length", "15")
    handler.end_headers()
    handler.wfile.write(b"<p>Log in</p>\r\n")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "the server answers 404 Not Found"),
        (page, "the server sends a web page, and no video"),
        (content(b"no video" * 100), "not a video that OpenCV can read"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n"), "the server's answer is not one of HTTP"),
        (lambda handler: handler.send_error(418, "\x1b[2J"), "the server answers 418 I'm a Teapot"),
        (lambda handler: handler.send_error(401), "answers 401 Unauthorized: are user and password right?"),
    ],
)
def test_why_no_video_comes(server, answer, message):
    server.answers = [answer] * (answer is not None)
    with pytest.raises(DataError) as error:
        VideoSource(server.address(user=f"admin:{PASSWORD}@"))
    assert str(error.value).startswith(f"{server.address()}: ")
    assert message in str(error.value) and PASSWORD not in str(error.value)


def test_server_that_cannot_be_reached():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/x.mp4"
        with pytest.raises(DataError, match=re.escape(f"{address}: the server cannot be reached")):
            VideoSource(address)


def test_index_at_the_end_needs_parts_of_the_file(server, tmp_path):
    """As Python's http.server, this server always sends the whole file."""
    data = write_video(tmp_path / "v.mp4", GRAYS).read_bytes()
    at = data.index(b"moov") - 4
    empty = (1 << 20).to_bytes(4, "big") + b"free" + bytes((1 << 20) - 8)  # more than FFmpeg keeps
    server.answers = [content(data[:at] + empty + data[at:])]
    with pytest.raises(DataError, match=r"it has no Range requests.*download the video, or move the index"):
        VideoSource(server.address("v.mp4"))


def test_playlists_reach_neither_files_nor_servers(server, tmp_path):
    video = write_video(tmp_path / "v.avi", GRAYS)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    server.answers = [content(playlist.format(video.as_uri()).encode())]
    with pytest.raises(DataError, match="not a video that OpenCV can read"):
        VideoSource(server.address("list.m3u8"))
    requests = len(server.paths)
    local = tmp_path / "list.mp4"
    local.write_text(playlist.format(server.address("inner.avi")))
    server.answers = [content(video.read_bytes())]
    with pytest.raises(DataError, match="not a video that OpenCV can read"):
        VideoSource(local)
    assert len(server.paths) == requests


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "concat://a|b", "gopher://h/", "ftp://me:pass@h/v.mp4", "subfile,,start,0,end,9,,:///v.mp4"],
)
def test_other_protocols_are_refused(address):
    with pytest.raises(DataError, match=r"streams are read by http, https, rtmp|no such video file") as error:
        VideoSource(address)
    assert "pass@" not in str(error.value)


def test_address_with_line_breaks_is_refused():
    with pytest.raises(DataError, match="%-encoded"):
        VideoSource("http://127.0.0.1:9/a\r\nHost: other")
