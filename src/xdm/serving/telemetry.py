"""What a service counts, for Prometheus: every metric, its labels and what it means.

Labels take few values: a route is a template, a key is its name, never an id of a user or an item.
With several workers each writes into files of its own (Prometheus' multiprocess mode, which is on where the environment
has PROMETHEUS_MULTIPROC_DIR when this module is imported), and any of them answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, process_collector
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

from xdm import __version__

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

GaugeMode = Literal["livesum", "livemax"]


class Telemetry:
    """The counters of one process. All methods may be called from any thread."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._multiprocess = bool(os.environ.get(MULTIPROCESS_VARIABLE))
        if not self._multiprocess:  # it looks at its own process alone
            process_collector.ProcessCollector(registry=registry)

        # sample name -> its labels: what may be asked of Prometheus
        self.samples: dict[str, tuple[str, ...]] = {}

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            self.samples[f"{name}_total"] = labels
            return Counter(name, meaning, labels, registry=registry)

        def gauge(name: str, meaning: str, *labels: str, of_workers: GaugeMode = "livesum") -> Gauge:
            self.samples[name] = labels
            return Gauge(name, meaning, labels, registry=registry, multiprocess_mode=of_workers)

        def histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float] = BUCKETS) -> Histogram:
            self.samples |= {f"{name}_bucket": (*labels, "le"), f"{name}_sum": labels, f"{name}_count": labels}
            return Histogram(name, meaning, labels, registry=registry, buckets=buckets)

        # --- HTTP: counted by the middleware
        self._requests = counter("xdm_http_requests", "Requests answered.", "route", "method", "status")
        self._seconds = histogram("xdm_http_request_seconds", "From a request's head to its last byte.", "route")
        self._running = gauge("xdm_http_requests_running", "Requests that are being answered.")
        self._of_key = counter("xdm_key_requests", "Requests by the name of their key.", "key")
        self._refused = counter("xdm_refused", "Requests refused at the door.", "reason")
        # --- the engine
        self._answers = counter(
            "xdm_answers", "Answers by source; fallback says why it was not the model.", "source", "fallback"
        )
        self._answer_seconds = histogram("xdm_answer_seconds", "From a question's arrival in the queue to its answer.")
        self._batch = histogram("xdm_batch_questions", "Questions answered together.", buckets=BATCH_BUCKETS)
        self._queue = gauge("xdm_queue_depth", "Questions that wait.")
        self._events = counter("xdm_events", "Events by what became of them: accepted or duplicate.", "outcome")
        self._faults = counter("xdm_faults", "Faults by kind: state, model, index, catalogue, background, ….", "kind")
        # --- what is served
        self._swaps = counter("xdm_model_swaps", "Attempts to load or activate a model, by outcome.", "outcome")
        self._model = gauge("xdm_model_workers", "Workers that serve with the model.", "name", "fingerprint")
        self._items = gauge("xdm_catalogue_items", "Items that can be recommended.", of_workers="livemax")
        self._version = gauge("xdm_workers", "Workers that run, by version.", "version")
        self._version.labels(__version__).set(1)
        self._served: tuple[str, str] | None = None
        # `labels` looks its values up under a lock; the few combinations are remembered
        self._request_counter = lru_cache(4096)(self._requests.labels)
        self._route_seconds = lru_cache(256)(self._seconds.labels)
        self._key_counter = lru_cache(1024)(self._of_key.labels)
        self._answer_counter = lru_cache(256)(self._answers.labels)

    # --- HTTP ---------------------------------------------------------------------------------------------------------
    def request_started(self) -> None:
        self._running.inc()

    def request_ended(self, route: str, method: str, status: int, seconds: float, key: str | None) -> None:
        self._running.dec()
        self._request_counter(route, method, status).inc()
        self._route_seconds(route).observe(seconds)
        if key is not None:
            self._key_counter(key).inc()

    def refused(self, reason: str) -> None:
        """A request was refused at the door: ``host``, ``key``, ``scope`` or ``rate``."""
        self._refused.labels(reason).inc()

    # --- the engine ---------------------------------------------------------------------------------------------------
    def answered(self, source: str, fallback: str | None, seconds: float) -> None:
        """A question was answered from ``source``, ``seconds`` after it came; ``fallback``: why not by the model."""
        self._answer_counter(source, fallback or "").inc()
        self._answer_seconds.observe(seconds)

    def batch(self, questions: int) -> None:
        """So many questions were answered together."""
        self._batch.observe(questions)

    def queue(self, depth: int) -> None:
        """So many questions wait just now."""
        self._queue.set(depth)

    def events(self, accepted: int, duplicates: int) -> None:
        """A batch of events was stored."""
        self._events.labels("accepted").inc(accepted)
        self._events.labels("duplicate").inc(duplicates)

    def fault(self, kind: str) -> None:
        """Something failed inside; ``kind`` is one word (state, model, index, catalogue, background)."""
        self._faults.labels(kind).inc()

    # --- what is served -----------------------------------------------------------------------------------------------
    def swapped(self, outcome: str) -> None:
        """A model was to be loaded or activated: ``loaded``, ``activated``, ``rolled_back``, ``refused`` or ``failed``."""
        self._swaps.labels(outcome).inc()

    def serves(self, name: str, fingerprint: str, items: int) -> None:
        """This worker answers with this model from now on, and can recommend so many items."""
        if self._served is not None and self._served != (name, fingerprint):
            self._model.labels(*self._served).set(0)
        self._served = (name, fingerprint)
        self._model.labels(name, fingerprint).set(1)
        self._items.set(items)

    # --- reading ------------------------------------------------------------------------------------------------------
    def render(self) -> tuple[bytes, str]:
        """All metrics in Prometheus' text format, and its media type."""
        if not self._multiprocess:
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)
        return generate_latest(everybody), CONTENT_TYPE_LATEST
