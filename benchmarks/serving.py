"""Throughput, latency and errors of the HTTP server under load, compared with the detector without a server.

These take turns, for some seconds each: the model on prepared images and the detector on image files, both in this
process and with the server's settings; and the server in a process of its own. The server's clients are threads of
this process that send one request after the other over open connections. They use processor time too, which lowers the
server's throughput on a machine with few cores.

All the while another client asks for /healthz every 100 ms: its latency, and the longest time without an answer, show
whether the server stands still while the model computes. In the end a second server, whose time limit is half of the
median latency (at least a second), shows how long after its limit a request gets its 504.
"""

import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from common import ROOT, make_parser, report

from ppdet.deploy.precisions import PRECISIONS
from ppdet.utils.disk.images import find_images

EXAMPLES = """examples:
  python benchmarks/serving.py --model_dir output_inference/fcos_r18vd_fpn_bccd --image_dir photos
  python benchmarks/serving.py --model_dir DIR --image_dir photos --clients 8 --seconds 20 --repeat 1 --max_batch 8
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model_dir", required=True, help="folder of the exported model")
    add("--image_dir", required=True, help="folder of images")
    add("--images", type=int, default=32, help="number of the folder's images to use, the first ones (default: 32)")
    add("--clients", type=int, default=32, help="number of clients that send requests at the same time (default: 32)")
    add("--seconds", type=float, default=60, help="seconds of load on the server in all turns together (default: 60)")
    add("--backend", default="auto", help="engine that runs the model (default: auto)")
    add("--device", default="cpu", help="device that runs the model: cpu, gpu, xpu, ... (default: cpu)")
    add("--precision", default="fp32", choices=PRECISIONS, help="precision of the model (default: fp32)")
    add("--cpu_threads", type=int, help="threads of the model (default: all processors)")
    add(
        "--max_batch",
        type=int,
        default=4,
        help="most images in one batch, of the server and of the model alone (default: 4)",
    )
    add("--max_delay_ms", type=float, default=5, help="how long the server waits for a full batch (default: 5)")
    parser.set_defaults(repeat=3)
    return parser.parse_args()


def engine_options(arguments: argparse.Namespace) -> list[str]:
    threads = ["--cpu_threads", str(arguments.cpu_threads)] if arguments.cpu_threads else []
    names = ("model_dir", "backend", "device", "precision")
    return [*(part for name in names for part in (f"--{name}", str(getattr(arguments, name)))), *threads]


@contextmanager
def server(arguments: argparse.Namespace, timeout_s: float = 120) -> Iterator[int]:
    """Run the server on a free port, and yield the port when the server is ready."""
    command = [sys.executable, "-m", "ppdet.deploy.serve", "--port", "0", *engine_options(arguments)]
    command += ["--max_batch", str(arguments.max_batch), "--max_delay_ms", str(arguments.max_delay_ms)]
    command += ["--max_queue", str(2 * arguments.clients), "--timeout_s", str(timeout_s)]
    command += ["--max_connections_per_address", str(2 * arguments.clients)]
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)  # nosec B603  # this Python and our own server
        try:
            port = None
            while port is None or get(port, "/readyz")[0] != 200:
                time.sleep(0.1)
                found = re.search(r"listening on http://.*:(\d+)", Path(log.name).read_text())
                port = int(found[1]) if found else None
                if process.poll() is not None:
                    raise SystemExit(f"the server does not start:\n{Path(log.name).read_text()}")
            yield port
            process.terminate()
            if process.wait(60) != 0:
                raise SystemExit(f"the server ended with {process.returncode}:\n{Path(log.name).read_text()}")
        finally:
            process.kill()


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read().decode()


def form(image: bytes) -> tuple[bytes, dict[str, str]]:
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="image"\r\n\r\n'
    body = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


class Load:
    """Clients that send one request after the other until the time is over, and then wait for the last answers."""

    def __init__(self, port: int, files: list[bytes], clients: int) -> None:
        self.port = port
        self.requests = [form(data) for data in files]
        self.clients = clients
        self.latencies: list[float] = []
        self.timeouts: list[float] = []  # how long requests took that ended with 504
        self.errors: list[str] = []

    def __call__(self, seconds: float) -> float:
        """Send requests for `seconds` seconds; return the answers per second."""
        answered = len(self.latencies)
        start = time.perf_counter()
        threads = [threading.Thread(target=self.client, args=(i, start + seconds)) for i in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (len(self.latencies) - answered) / (time.perf_counter() - start)

    def client(self, number: int, end: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while time.perf_counter() < end:
            number += self.clients
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict", *self.requests[number % len(self.requests)])
                response = connection.getresponse()
                content = json.loads(response.read())
                if response.status == 504:
                    self.timeouts.append(time.perf_counter() - start)
                    continue
                if response.status != 200 or "detections" not in content:
                    raise ValueError(f"{response.status} {content}")
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                connection.close()
                continue
            self.latencies.append(time.perf_counter() - start)
        connection.close()


class Health(threading.Thread):
    """Asks for /healthz every 100 ms until `stop` is set, and notes when the answers came and how long they took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.stop = threading.Event()
        self.latencies: list[float] = []
        self.times: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        while not self.stop.wait(0.1):
            start = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            self.times.append(time.perf_counter())
            self.latencies.append(self.times[-1] - start)
        connection.close()

    @property
    def largest_gap(self) -> float:
        return max(after - before for before, after in zip(self.times, self.times[1:]))


def percentiles(seconds: list[float]) -> str:
    values = [1e3 * statistics.quantiles(seconds, n=1000)[i] for i in (499, 899, 989, 998)]
    return "p50 {:.1f} ms, p90 {:.1f} ms, p99 {:.1f} ms, p99.9 {:.1f} ms".format(*values)


def alone(run: Callable[[int], int]) -> Callable[[float], float]:
    """Turn a function into one that calls it again and again for some seconds and returns images per second.

    Args:
        run: takes the number of the call, from 0, and returns how many images it processed.
    """

    def measure(seconds: float) -> float:
        start, count, number = time.perf_counter(), 0, 0
        while time.perf_counter() - start < seconds:
            count += run(number)
            number += 1
        return count / (time.perf_counter() - start)

    return measure


def stages_alone(arguments: argparse.Namespace, files: list[bytes]) -> dict[str, Callable[[float], float]]:
    """Return the stages without a server: the model on prepared images, singly and in batches, and the detector."""
    from ppdet.deploy import Detector

    detector = Detector(
        arguments.model_dir,
        arguments.backend,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.cpu_threads,
    )
    samples = [detector.prepare(data) for data in files]
    size = arguments.max_batch

    def batch(number: int) -> int:
        chosen = [samples[(size * number + i) % len(samples)] for i in range(size)]
        return len(detector.run(chosen))

    def one(number: int) -> int:
        return len(detector.run([samples[number % len(samples)]]))

    def file(number: int) -> int:
        detector.predict(files[number % len(files)])
        return 1

    stages = {"model, one by one": one, "detector on files": file}
    if size > 1:
        stages[f"model, batches of {size}"] = batch
    return {name: alone(stage) for name, stage in stages.items()}


def batch_sizes(port: int) -> tuple[float, float]:
    """Return how many images, and how many batches, the server has processed, from its metrics."""
    text = get(port, "/metrics")[1]
    images, batches = (re.search(rf"^ppdet_batch_size_{name} (\S+)$", text, re.M)[1] for name in ("sum", "count"))
    return float(images), float(batches)


def main() -> None:
    arguments = parse_arguments()
    paths = find_images(arguments.image_dir)[: arguments.images]
    files = [Path(path).read_bytes() for path in paths]
    stages = stages_alone(arguments, files)
    with server(arguments) as port:
        load = Load(port, files, arguments.clients)
        for stage in (*stages.values(), load):
            stage(3.0)  # the first runs are slower
        load.latencies.clear()
        before = batch_sizes(port)
        rates: dict[str, list[float]] = {name: [] for name in (*stages, "server")}
        health: list[Health] = []
        for _ in range(arguments.repeat):
            for name, stage in {**stages, "server": load}.items():
                if name == "server":
                    health.append(Health(port))
                    health[-1].start()
                rates[name].append(stage(arguments.seconds / arguments.repeat))
            health[-1].stop.set()
            health[-1].join()
        images, batches = (after - first for after, first in zip(batch_sizes(port), before))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    rows = [[name, value, medians["server"] / value] for name, value in medians.items()]
    title = f"{arguments.clients} clients, {arguments.seconds:g} s of load in {arguments.repeat} turns"
    report(title, ["what", "images/s", "server's throughput relative to it"], rows, arguments.json)
    print(f"\n{len(load.latencies)} answers, {len(load.errors)} errors, {images / batches:.2f} images in a batch")
    print(f"latency: {percentiles(load.latencies)}")
    asked = [latency for one in health for latency in one.latencies]
    print(f"/healthz under load: {percentiles(asked)}, slowest {1e3 * max(asked):.1f} ms of {len(asked)}")
    gap = max(one.largest_gap for one in health)
    print(f"longest time without its answer: {1e3 * gap:.1f} ms (asked every 100 ms)")
    timeout_s = max(1.0, statistics.median(load.latencies) / 2)
    with server(arguments, timeout_s) as port:
        short = Load(port, files, arguments.clients)
        short(3 * timeout_s)
    if short.timeouts:
        late = [seconds - timeout_s for seconds in short.timeouts]
        print(f"{len(late)} requests of {timeout_s:.2f} s ended with 504, late by {percentiles(late)}")
    if load.errors:
        raise SystemExit(f"first error: {load.errors[0]}")


if __name__ == "__main__":
    main()
