"""What Prometheus may ask: requests, tokens, waiting, and how long things take."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..extras import needs_extra
from ..generation.results import GenerationResult

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where worker processes add their figures up
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The figures of one process; a registry of its own, so that tests may have several."""

    def __init__(self) -> None:
        """Begin at 0.

        Raises:
            MissingExtraError: prometheus-client is not installed.
        """
        with needs_extra("server"):
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        self.registry: CollectorRegistry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"pocketgpt_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, label: str, buckets: Sequence[float]) -> Histogram:
            full = f"pocketgpt_{name}_seconds"
            return Histogram(full, text, [label], registry=self.registry, buckets=buckets)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(
                f"pocketgpt_{name}",
                text,
                ["model"],
                registry=self.registry,
                multiprocess_mode="livesum",
            )

        self._requests = counter("requests", "Requests answered.", "path", "status")
        self._request_seconds = histogram(
            "request", "From a request to the end of its answer.", "path", _LONG
        )
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts.", "model")
        self._cached_tokens = counter(
            "cached_tokens", "Of those, tokens that were in a cache.", "model"
        )
        self._new_tokens = counter("new_tokens", "Tokens generated.", "model")
        self._texts = counter("texts", "Texts generated, by how they ended.", "model", "reason")
        self._first = histogram(
            "first_token", "From a request to a text's first token.", "model", _LONG
        )
        self._waiting = histogram("queue", "Of that, until the text had a slot.", "model", _LONG)
        self._gap = histogram(
            "step_gap", "Between two steps, as all texts that run see it.", "model", _SHORT
        )
        self._running = gauge("running", "Rows that run now.")
        self._queued = gauge("queued", "Texts that wait for a slot now.")
        self._kept = gauge("prefix_cache_bytes", "Keys and values of ended texts in memory.")
        self.refresh: Callable[[], None] = lambda: None

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def text_ended(self, model: str, result: GenerationResult) -> None:
        """Count a text."""
        timings = result.timings
        self._prompt_tokens.labels(model).inc(timings.prompt_tokens)
        self._cached_tokens.labels(model).inc(timings.reused_tokens)
        self._new_tokens.labels(model).inc(timings.new_tokens)
        self._texts.labels(model, result.finish_reason).inc()
        self._waiting.labels(model).observe(timings.waiting_seconds)
        if timings.new_tokens:
            self._first.labels(model).observe(timings.time_to_first_token)

    def stepped(self, model: str, seconds: float) -> None:
        """Note the time between two steps."""
        self._gap.labels(model).observe(seconds)

    def depth(self, model: str, running: int, queued: int, prefix_cache_bytes: int) -> None:
        """Note what is so now."""
        self._running.labels(model).set(running)
        self._queued.labels(model).set(queued)
        self._kept.labels(model).set(prefix_cache_bytes)

    def page(self) -> tuple[bytes, str]:
        """Return what Prometheus reads, and its content type; of all workers, where several are."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        self.refresh()
        registry = self.registry
        if os.environ.get(SHARED_FOLDER):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST
