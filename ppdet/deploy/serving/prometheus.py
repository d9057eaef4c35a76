"""The metrics of a server, for Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
STAGES = ("read", "prepare", "queue", "inference", "draw")


class Timer:
    """`seconds` is set when the block of `Metrics.stage` has ended."""

    seconds = 0.0


class Metrics:
    """Counters of one server. All methods may be called from any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("ppdet_http_requests", "Answered requests.", ["path", "status"], registry=registry)
        self.latency = Histogram(
            "ppdet_predict_duration_seconds",
            "From the first byte of a request to /predict to its answer, of any status.",
            buckets=SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "ppdet_stage_duration_seconds",
            "Time of each stage of a request; inference is the time of its whole batch.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "ppdet_batch_size", "Images in one run of the model.", buckets=BATCHES, registry=registry
        )
        self.queue_depth = Gauge("ppdet_queue_depth", "Images that wait for the model.", registry=registry)
        self.in_flight = Gauge("ppdet_requests_in_flight", "Requests without an answer yet.", registry=registry)
        self.connections = Gauge("ppdet_connections", "Open connections.", registry=registry)
        self.refused = Counter(
            "ppdet_connections_refused", "Connections that were refused: there were too many.", registry=registry
        )
        self.closed = Counter(
            "ppdet_connections_closed",
            "Connections that were closed to make room, or because the client did not take its answer.",
            registry=registry,
        )
        self.ready = Gauge("ppdet_ready", "1 if the server takes requests.", registry=registry)
        self.model = Gauge(
            "ppdet_model_info", "The engine, as labels.", ["backend", "device", "precision"], registry=registry
        )
        self.restarts = Counter(
            "ppdet_worker_restarts", "Worker processes that died and were started again.", ["worker"], registry=registry
        )
        self.kills = Counter(
            "ppdet_worker_kills", "Worker processes that took too long and were killed.", ["worker"], registry=registry
        )
        for stage in STAGES:
            self.stages.labels(stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[Timer]:
        """Measure the time of the block, unless it raises an exception."""
        start = time.perf_counter()
        timer = Timer()
        yield timer
        timer.seconds = time.perf_counter() - start
        self.observe(name, timer.seconds)

    def observe(self, stage: str, seconds: float) -> None:
        self.stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
