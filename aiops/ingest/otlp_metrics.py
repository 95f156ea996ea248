"""OTLP metrics into samples: gauges, cumulative sums, histograms, summaries.

Delta temporality and exponential histograms are refused point by point, with the reason in the partial success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from aiops.core.ports import Collected
from aiops.core.series import METRIC_NAME, STALE_NAN, Labels, MetricMetadata, SampleBlock
from aiops.core.untrusted import Untrusted
from aiops.ingest.bodies import DecodeLimits, Rejections
from aiops.ingest.otlp_names import identity, labels_from, metric_name, unit_word

Attributes = Callable[[Iterable[Any]], Labels]
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
DELTA = (
    "delta temporality is not supported: set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative "
    "or use the collector's deltatocumulative processor"
)


class MetricRows:
    """Gathers the samples of one request."""

    def __init__(self, attributes: Attributes, limits: DecodeLimits, rejections: Rejections) -> None:
        self._attributes = attributes
        self._limits = limits
        self._rejections = rejections
        self._points: dict[Labels, list[tuple[int, float]]] = {}
        self._metadata: dict[str, MetricMetadata] = {}
        self._base: dict[str, str] = {}
        self._newest = 0

    def resource(self, resource_metrics: Any) -> None:
        resource = self._attributes(resource_metrics.resource.attributes)
        self._base = identity(resource)
        self._newest = 0
        for scope in resource_metrics.scope_metrics:
            for metric in scope.metrics:
                self._metric(metric)
        rest = [(k, v) for k, v in resource if k not in ("service.name", "service.namespace", "service.instance.id")]
        if rest and self._base and self._newest:
            self._add("target_info", labels_from(rest), self._newest, 1.0)
            self._describe("target_info", "gauge", "", "Target metadata")

    def collected(self) -> Collected:
        series = []
        for labels, points in self._points.items():
            points.sort(key=lambda p: p[0])
            series.append(
                (labels, np.array([p[0] for p in points], np.int64), np.array([p[1] for p in points], np.float64))
            )
        return Collected(samples=SampleBlock.build(series), metadata=tuple(self._metadata.values()))

    def _metric(self, metric: Any) -> None:
        shape = metric.WhichOneof("data")
        if shape is None or not metric.name:
            self._rejections.add("a metric has no name or no data")
            return
        data = getattr(metric, shape)
        if shape == "exponential_histogram":
            self._refuse(metric, data, "exponential histograms are not supported")
            return
        if shape in ("sum", "histogram") and data.aggregation_temporality != _CUMULATIVE:
            self._refuse(metric, data, DELTA)
            return
        kind = "counter" if shape == "sum" and data.is_monotonic else {"sum": "gauge"}.get(shape, shape)
        name = metric_name(metric.name, metric.unit, kind)
        if not name:
            self._refuse(metric, data, "a metric's name has no letters or digits")
            return
        self._describe(name, kind, unit_word(metric.unit), metric.description)
        add = {"histogram": self._histogram, "summary": self._summary}.get(shape, self._number)
        for point in data.data_points:
            labels = labels_from(self._attributes(point.attributes))
            ts = point.time_unix_nano // 1_000_000
            if ts <= 0:
                self._rejections.add(f"a point of '{_safe(metric.name)}' has no time")
            elif len(labels) > self._limits.max_labels:
                self._rejections.add(f"a point of '{_safe(metric.name)}' has {len(labels)} attributes")
            elif any(len(value) > self._limits.max_label_value_bytes for value in labels.values()):
                self._rejections.add(f"a point of '{_safe(metric.name)}' has an attribute that is too long")
            else:
                self._newest = max(self._newest, ts)
                add(name, labels, ts, point)

    def _number(self, name: str, labels: dict[str, str], ts: int, point: Any) -> None:
        which = point.WhichOneof("value")
        value = float(getattr(point, which)) if which else 0.0
        self._add(name, labels, ts, value, point)

    def _histogram(self, name: str, labels: dict[str, str], ts: int, point: Any) -> None:
        bounds, counts = list(point.explicit_bounds), list(point.bucket_counts)
        if counts and len(counts) != len(bounds) + 1:
            self._rejections.add(f"a histogram of '{_safe(name)}' has {len(counts)} counts for {len(bounds)} bounds")
            return
        running = 0
        for bound, count in zip(bounds, counts, strict=False):
            running += count
            self._add(f"{name}_bucket", {**labels, "le": go_float(bound)}, ts, float(running), point)
        self._add(f"{name}_bucket", {**labels, "le": "+Inf"}, ts, float(point.count), point)
        self._add(f"{name}_count", labels, ts, float(point.count), point)
        if point.HasField("sum"):
            self._add(f"{name}_sum", labels, ts, point.sum, point)

    def _summary(self, name: str, labels: dict[str, str], ts: int, point: Any) -> None:
        for item in point.quantile_values:
            self._add(name, {**labels, "quantile": go_float(item.quantile)}, ts, item.value, point)
        self._add(f"{name}_count", labels, ts, float(point.count), point)
        self._add(f"{name}_sum", labels, ts, point.sum, point)

    def _add(self, name: str, labels: dict[str, str], ts: int, value: float, point: Any = None) -> None:
        if point is not None and point.flags & _NO_VALUE:
            value = STALE_NAN
        key = tuple(sorted({**labels, **self._base, METRIC_NAME: name}.items()))
        self._points.setdefault(key, []).append((ts, value))

    def _describe(self, name: str, kind: str, unit: str, text: str) -> None:
        self._metadata[name] = MetricMetadata(name, kind, unit, text)

    def _refuse(self, metric: Any, data: Any, reason: str) -> None:
        self._rejections.add(f"{reason} ('{_safe(metric.name)}')", max(1, len(data.data_points)))


def go_float(value: float) -> str:
    """A bound as Prometheus writes it: shortest, no exponent.

    >>> go_float(5.0), go_float(0.005), go_float(float("inf"))
    ('5', '0.005', '+Inf')
    """
    if np.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if np.isnan(value) else str(np.format_float_positional(value, trim="-"))


def _safe(text: str) -> str:
    return Untrusted(text).display(80)
