"""What Prometheus reads at /metrics. No label ever comes from a request's text."""

from __future__ import annotations

from typing import Callable

from prometheus_client import (
    CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector, disable_created_metrics, generate_latest,
)

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one application, in a registry of their own."""

    def __init__(self, waiting: Callable[[], float], late: Callable[[], float], ready: Callable[[], bool]):
        disable_created_metrics()  # a second line for each counter, which nobody reads
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("scion_requests", "HTTP requests by route and status code", ["route", "code"], registry=registry)
        self.seconds = Histogram("scion_request_seconds", "seconds from a request's head to its response", ["route"], registry=registry,
                                 buckets=SECONDS)
        self.answers = Counter("scion_answers", "answers of the typed routes by status", ["route", "status"], registry=registry)
        self.degraded = Counter("scion_degraded", "answers in whose place the safe default stood", ["route"], registry=registry)
        self.late = Counter("scion_late", "answers that were completed after their deadline", ["route"], registry=registry)
        self.model = Histogram("scion_model_seconds", "seconds of the model for one case", ["route"], registry=registry, buckets=SECONDS)
        self.info = Info("scion_model", "what is served", registry=registry)
        Gauge("scion_waiting", "callers in line for the model", registry=registry).set_function(waiting)
        Gauge("scion_late_pending", "late answers that are still to come", registry=registry).set_function(late)
        Gauge("scion_ready", "1 when warm and not draining", registry=registry).set_function(lambda: float(ready()))

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)
