"""What a server counts and times, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class ServerMetrics:
    """The metrics of one application.

    Attributes:
        requests: Answers, by path, method and status.
        request_seconds: Time from the first byte of a request to the end of its answer, by path.
        requests_at_work: Requests that are at work.
        rejections: Requests that were turned away, by reason.
        rows: Rows that were predicted, by model.
        batch_rows: Rows of a batch.
        batch_seconds: Time of a batch.
        wait_seconds: Time that a row waited for its batch.
        queue_rows: Rows that wait.
        media: Files that were decoded, by kind and how it ended.
        media_seconds: Time of decoding a file, by kind.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("mmadapters_requests", "Answers.", ("path", "method", "status"), registry=registry)
        self.request_seconds = Histogram(
            "mmadapters_request_seconds", "Time of a request.", ("path",), buckets=SECONDS, registry=registry
        )
        self.requests_at_work = Gauge("mmadapters_requests_at_work", "Requests that are at work.", registry=registry)
        self.rejections = Counter(
            "mmadapters_rejections", "Requests that were turned away.", ("reason",), registry=registry
        )
        self.rows = Counter("mmadapters_rows", "Rows that were predicted.", ("model",), registry=registry)
        self.batch_rows = Histogram("mmadapters_batch_rows", "Rows of a batch.", buckets=ROWS, registry=registry)
        self.batch_seconds = Histogram(
            "mmadapters_batch_seconds", "Time of a batch.", buckets=SECONDS, registry=registry
        )
        self.wait_seconds = Histogram(
            "mmadapters_wait_seconds", "Time that a row waited for its batch.", buckets=SECONDS, registry=registry
        )
        self.queue_rows = Gauge("mmadapters_queue_rows", "Rows that wait.", registry=registry)
        self.media = Counter("mmadapters_media", "Files that were decoded.", ("kind", "status"), registry=registry)
        self.media_seconds = Histogram(
            "mmadapters_media_seconds", "Time of decoding a file.", ("kind",), buckets=SECONDS, registry=registry
        )

    def text(self) -> bytes:
        """Return all metrics in Prometheus' format."""
        return generate_latest(self._registry)


def merged(texts: Mapping[str, str], label: str) -> bytes:
    """Return the metrics of several applications as one, each series with a label more.

    Args:
        texts: What ``ServerMetrics.text`` of each says, by the label's value.
        label: Its name.
    """
    registry = CollectorRegistry()
    registry.register(_Merged(texts, label))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: Mapping[str, str], label: str) -> None:
        self._texts = texts
        self._label = label

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for value, text in sorted(self._texts.items()):
            for found in text_string_to_metric_families(text):
                family = families.setdefault(found.name, Metric(found.name, found.documentation, found.type))
                for sample in found.samples:
                    labels = {**sample.labels, self._label: value}
                    family.add_sample(sample.name, labels, sample.value, sample.timestamp, sample.exemplar)
        yield from families.values()
