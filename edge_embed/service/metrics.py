"""What the service did, for Prometheus. Labels are names of routes and models, never what clients send."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from edge_embed_runtime.extras import require
from edge_embed_runtime.system.memory import rss_bytes

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

# Upper ends of the histograms.
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# What requests that fit no route are counted as.
OTHER = "other"


class Metrics:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        prometheus = require("prometheus_client", "serve")
        self.registry = prometheus.CollectorRegistry(auto_describe=False)
        self._requests = prometheus.Counter(
            "edge_embed_requests", "Answers by route and status.", ["route", "status"], registry=self.registry
        )
        self._seconds = prometheus.Histogram(
            "edge_embed_request_seconds", "From the head of a request to its answer.", ["route"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._batches = prometheus.Histogram(
            "edge_embed_batch_texts", "Texts that a model took together.", ["model"], buckets=TEXTS,
            registry=self.registry,
        )  # fmt: skip
        self._tokens = prometheus.Counter(
            "edge_embed_tokens",
            "Tokens of texts that models read.",
            ["model"],
            registry=self.registry,
        )
        self._documents = prometheus.Gauge(
            "edge_embed_index_documents", "Documents of the index, NaN where it cannot be read.", registry=self.registry
        )
        self._answered: dict[tuple[str, int], Callable[[], None]] = {}
        self._timed: dict[str, Callable[[float], None]] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer. route: the path that a module declares, or OTHER"""
        count = self._answered.get((route, status))
        if count is None:
            count = self._answered[route, status] = self._requests.labels(route, str(status)).inc
        count()
        timed = self._timed.get(route)
        if timed is None:
            timed = self._timed[route] = self._seconds.labels(route).observe
        timed(seconds)

    def batch(self, model: str, texts: int) -> None:
        self._batches.labels(model).observe(texts)

    def tokens(self, model: str, count: int) -> None:
        self._tokens.labels(model).inc(count)

    def documents(self, count: int | None) -> None:
        """Of the index; None where it cannot be read."""
        self._documents.set(math.nan if count is None else count)

    def watch(self, name: str, description: str, read: "Callable[[], dict[str, float]]") -> None:
        """A gauge that is read when it is asked for: a number for each model, or under "" one without a label."""
        self.registry.register(_Gauge(name, description, read))

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        written: bytes = require("prometheus_client", "serve").generate_latest(self.registry)
        return written

    def watch_memory(self) -> None:
        self.watch("edge_embed_resident_bytes", "Resident set of the process.", lambda: {"": float(rss_bytes() or 0)})


class _Gauge:
    """A collector of one gauge."""

    def __init__(self, name: str, description: str, read: Callable[[], dict[str, float]]) -> None:
        self.name, self.description, self.read = name, description, read

    def collect(self) -> "Iterable[Metric]":
        from prometheus_client.core import GaugeMetricFamily

        values = self.read()
        labelled = any(values)
        gauge = GaugeMetricFamily(self.name, self.description, labels=["model"] if labelled else [])
        for label, value in values.items():
            gauge.add_metric([label] if labelled else [], value)
        yield gauge

    def describe(self) -> "Iterator[Metric]":
        return iter(())
