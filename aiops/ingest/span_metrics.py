"""Requests, errors and durations of every operation, from spans.

Names and labels as the OpenTelemetry Collector's span-metrics connector writes them in Prometheus form, so that its
dashboards fit: ``traces_span_metrics_calls_total`` and ``traces_span_metrics_duration_milliseconds``. Spans sampled
with a known probability count for all that they stand for; of an unknown one they carry ``sampled="true"`` and are
on no default watch list.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiops.core.series import Labels, MetricMetadata, labels_of
from aiops.core.signals import Span
from aiops.ingest.event_series import EventSeries
from aiops.ingest.sampling import adjusted_count
from aiops.ingest.signal_labels import OTHER, base_labels

CALLS = "traces_span_metrics_calls_total"
DURATION = "traces_span_metrics_duration_milliseconds"
BOUNDS_MS = (
    2.0, 4.0, 6.0, 8.0, 10.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1000.0, 1400.0, 2000.0, 5000.0, 10_000.0, 15_000.0,
)  # fmt: skip
"""The connector's."""
OPERATIONS = 200
"""Span names of a service; further ones are ``other``."""
SERVICES = 1000
NAME_CAP = 200
SEEN = 10_000
METADATA = (
    MetricMetadata(CALLS, "counter", "", "Spans by service, name, kind and status."),
    MetricMetadata(DURATION, "histogram", "milliseconds", "Durations of spans by service, name, kind and status."),
)


class SpanMetrics:
    """Adds spans to series. Not thread-safe."""

    def __init__(self, series: EventSeries) -> None:
        self._series = series
        self._names: dict[str, set[str]] = {}
        self._seen: dict[tuple[Labels, str, str, str, bool], Labels] = {}

    def add(self, spans: Sequence[Span], now_ms: int) -> None:
        for span in spans:
            if not span.service:
                continue
            count = adjusted_count(span)
            at = min(span.end_unix_nano // 1_000_000, now_ms)
            labels = self._labels(span, sampled=not count)
            self._series.count(span.service, CALLS, labels, at, count or 1.0)
            self._series.observe(span.service, DURATION, labels, at, span.duration_ms, BOUNDS_MS, count or 1.0)

    def _labels(self, span: Span, *, sampled: bool) -> Labels:
        key = (span.resource, span.name.raw, span.kind, span.status, sampled)
        found = self._seen.get(key)
        if found is None:
            if len(self._seen) >= SEEN:
                self._seen.clear()
            found = self._seen[key] = labels_of(
                [
                    *base_labels(span.resource),
                    ("span_name", self._name(span.service, span.name.display(NAME_CAP))),
                    ("span_kind", f"SPAN_KIND_{span.kind.upper()}"),
                    ("status_code", f"STATUS_CODE_{span.status.upper()}"),
                    ("sampled", "true" if sampled else ""),
                ]
            )
        return found

    def _name(self, service: str, name: str) -> str:
        names = self._names.get(service)
        if names is None:
            if len(self._names) >= SERVICES:
                return OTHER
            names = self._names[service] = set()
        if name not in names:
            if len(names) >= OPERATIONS:
                return OTHER
            names.add(name)
        return name
