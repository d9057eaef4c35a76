"""The server as users run it: a process of its own, with an exported model that finds something in everything."""

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
from noise import noisy
from patience import PATIENCE, wait_until
from tiny import TINY_YAML, write_tiny_coco

from ppdet.deploy.serving.app import create_app
from ppdet.deploy.serving.service import Service
from ppdet.engine.export.graph import export_model

ROOT = Path(__file__).resolve().parents[1]
EXPORT = """
_BASE_: [tiny.yml]
TestReader:
  sample_transforms: [Decode: {}, Resize: {target_size: [64, 160]}, NormalizeImage: {}, Permute: {}]
  batch_transforms: [PadBatch: {pad_to_stride: 32}]
"""

PATIENT_SERVER = f"""
from ppdet.deploy import serve
from ppdet.deploy.serving import connections, server

server.LINGER_S = connections.HEAD_S = {PATIENCE}
serve.main()
"""


def export_tiny(folder: Path) -> Path:
    """Write data/images/001.png and so on, of two sizes, and export a detector with random weights; its folder."""
    data = write_tiny_coco(folder / "data", images=4, size=(77, 101))
    image = cv2.imread(str(data / "images/004.png"))
    cv2.imwrite(str(data / "images/004.png"), image[:, :50])  # upright: another padded size
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=data))
    (folder / "export.yml").write_text(EXPORT)
    options = ["FCOSHead.class_threshold=0.4", "FCOSHead.level_top_k=20", "FCOSHead.clip_boxes=true"]
    return export_model(noisy(folder / "export.yml", options), str(folder / "exported"))


class Client:
    """Requests to an application in this process, from any thread; a context manager that starts and stops it.

    The service's own processes take seconds to start, so that tests share one.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def __enter__(self) -> "Client":
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.run(self.service.start())
        self.connect()
        wait_until(lambda: self.service.obstacle is None or self.service.failure)
        assert self.service.failure is None
        return self

    def connect(self) -> None:
        """Make the application anew, with the service's settings as they are now."""
        transport = httpx.ASGITransport(create_app(self.service), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    def __exit__(self, *_: object) -> None:
        self.run(self.service.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def start(self, work: Coroutine) -> Future:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine) -> Any:
        return self.start(work).result(PATIENCE)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.run(self.client.post(path, **options))

    @contextmanager
    def settings(self, **changes: Any) -> Iterator[None]:
        """Other settings of the running service, within the block."""
        before, self.service.settings = self.service.settings, replace(self.service.settings, **changes)
        self.connect()
        try:
            yield
        finally:
            self.service.settings = before
            self.connect()

    @contextmanager
    def batches(self, most: int, delay_s: float) -> Iterator[None]:
        """Other sizes of batches, within the block."""
        batcher = self.service.batcher
        before = batcher.max_batch, batcher.max_delay_s
        batcher.max_batch, batcher.max_delay_s = most, delay_s
        yield
        batcher.max_batch, batcher.max_delay_s = before

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


class ServerProcess:
    """`python -m ppdet.deploy.serve` on a free port; as a context manager, it is ready inside and gone afterwards.

    Args:
        patient: connections that are silent when the server ends may stay so for long, as on a machine that is busy.
    """

    def __init__(self, model: Path, log: Path, *options: str, token: str | None = None, patient: bool = False) -> None:
        command = [sys.executable, *(["-c", PATIENT_SERVER] if patient else ["-m", "ppdet.deploy.serve"])]
        command += ["--model_dir", str(model), "--port", "0", "--timeout_s", str(PATIENCE), *options]
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        if token is not None:
            environment["PPDET_TOKEN"] = token
        self.log = log
        with open(log, "w") as stream:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stream, stdout=stream)
        self.port = 0

    def __enter__(self) -> "ServerProcess":
        try:
            wait_until(self.is_ready, f"the server is ready; {self.log}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"listening on http://.*:(\d+)", self.log.read_text())
        self.port = int(found[1]) if found else 0
        return self.port > 0 and self.request("GET", "/readyz")[0] == 200

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=PATIENCE)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict | None = None
    ) -> tuple[int, bytes]:
        """Status and content of the answer."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def predict(self, image: bytes, **fields: str) -> dict:
        body, headers = form(image, **fields)
        status, content = self.request("POST", "/predict", body, headers)
        assert status == 200, content
        return json.loads(content)

    def resident_bytes(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def terminate(self) -> int:
        """Send SIGTERM and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def form(image: bytes, name: str = "image", filename: str = "x", **fields: str) -> tuple[bytes, dict[str, str]]:
    """A multipart form with a file, as bytes and headers."""
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n')
    body = "".join(parts).encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}
