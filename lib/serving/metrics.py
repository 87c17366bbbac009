"""What the server counts, for Prometheus: base units, sizes and seconds as histograms."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from lib.release.reader import Release

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Of one server. All may be called from any thread."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("gtsrb_requests", "Requests answered", ["route", "status"], registry=registry)
        self.refusals = Counter("gtsrb_refusals", "Requests refused", ["reason"], registry=registry)
        self.waiting = Gauge("gtsrb_waiting_images", "Images taken and not yet answered", registry=registry)
        self.decode = Histogram(
            "gtsrb_decode_seconds", "Decoding and resizing of an image", buckets=_SECONDS, registry=registry
        )
        self.queue = Histogram(
            "gtsrb_queue_seconds", "From taken to the start of its batch", buckets=_SECONDS, registry=registry
        )
        self.compute = Histogram(
            "gtsrb_compute_seconds", "Normalization and network, a batch", buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram("gtsrb_batch_size", "Images in a batch", buckets=_IMAGES, registry=registry)
        self._model = Gauge(
            "gtsrb_model_info", "The release that answers", ["name", "version", "digest"], registry=registry
        )

    def serves(self, release: Release) -> None:
        """From now on this release answers."""
        self._model.clear()
        self._model.labels(release.name, release.version, release.digest).set(1)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        text: bytes = generate_latest(self._registry)
        return text
