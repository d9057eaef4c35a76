"""What Prometheus is told."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
STAGES = ("read", "prepare", "queue", "inference", "draw")


class Metrics:
    """Counters of one server. Everything may be called from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("ppdet_http_requests", "Answered requests.", ["path", "status"], registry=self.registry)
        self.latency = Histogram(
            "ppdet_predict_duration_seconds",
            "From the first byte of a request to /predict to its answer, whatever that is.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "ppdet_stage_duration_seconds",
            "What the time of a request goes to; inference is that of its whole batch.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "ppdet_batch_size", "Images in one run of the model.", buckets=BATCHES, registry=self.registry
        )
        self.queue_depth = Gauge("ppdet_queue_depth", "Images that wait for the model.", registry=self.registry)
        self.in_flight = Gauge("ppdet_requests_in_flight", "Requests without an answer yet.", registry=self.registry)
        self.ready = Gauge("ppdet_ready", "1 when the server takes requests.", registry=self.registry)
        self.model = Gauge(
            "ppdet_model_info", "The engine, as labels.", ["backend", "device", "precision"], registry=self.registry
        )
        for stage in STAGES:
            self.stages.labels(stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, float]]:
        """Measure what is inside; the result's `seconds` is there afterwards."""
        start = time.perf_counter()
        result: dict[str, float] = {}
        yield result
        result["seconds"] = time.perf_counter() - start
        self.observe(name, result["seconds"])

    def observe(self, stage: str, seconds: float) -> None:
        self.stages.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
