"""A web server on 127.0.0.1 for the tests of downloads: ranges, broken transfers, errors."""

import base64
import contextlib
import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from patience import PATIENCE


class FileServer:
    """Serves `files` (path: bytes). What it should do wrong is set by attributes; `requests` records."""

    def __init__(self):
        self.files = {}
        self.requests = []  # (path, Range header or None)
        self.cut_after = None  # bytes per answer, then the connection ends
        self.send_md5 = False
        self.send_etag = True
        self.ranges = True
        self.status = None
        self.redirects = {}  # path: URL
        self.says_length = True
        self.drips = None  # send a byte at a time, slowly and without end: "head" or "body"
        self.gate = None  # a threading.Event that answers wait for

    @contextlib.contextmanager
    def running(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def answer(self, handler):
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        if self.gate is not None:
            self.gate.wait(PATIENCE)
        if self.drips:
            self.drip(handler)
            return
        if handler.path.lstrip("/") in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path.lstrip("/")])
            handler.end_headers()
            return
        content = self.files.get(handler.path.lstrip("/"))
        if self.status is not None or content is None:
            handler.send_error(self.status or 404)
            return
        etag = '"' + hashlib.sha1(content).hexdigest() + '"'
        body, status = content, 200
        same = handler.headers.get("If-Range") in (None, etag)
        if wanted and self.ranges and same:
            start = int(wanted.split("=")[1].rstrip("-"))
            if start >= len(content):
                handler.send_error(416)
                return
            body, status = content[start:], 206
        handler.send_response(status)
        if self.says_length:
            handler.send_header("Content-Length", str(len(body)))
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.send_etag:
            handler.send_header("ETag", etag)
        if self.send_md5:
            handler.send_header("Content-MD5", base64.b64encode(hashlib.md5(content).digest()).decode())
        handler.end_headers()
        handler.wfile.write(body if self.cut_after is None else body[: self.cut_after])
        handler.close_connection = True

    def drip(self, handler):
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if self.drips == "body" else b"X-Long: "))
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.01)
