"""One OTLP metric of one resource and scope: its name, its labels, and what is remembered of its points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags

from aiops.core.series import METRIC_NAME, Exemplar, Labels, MetricMetadata
from aiops.ingest.bodies import DecodeLimits, Rejections
from aiops.ingest.delta import DeltaStreams, Recall
from aiops.ingest.exponential import ClassicGrid
from aiops.ingest.otlp_rules import OtlpRules
from aiops.ingest.otlp_values import attributes_of, id_of

CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
EXEMPLAR_RUNES = 128
"""OpenMetrics' limit on an exemplar's labels; filtered attributes that would pass it are left out."""
Fragment: TypeAlias = Sequence[bytes]
"""Data points as they came."""


@dataclass(slots=True)
class Family:
    """What the points of one metric have in common.

    Attributes:
        name: the metric's name; ``given`` is the sender's, fit to be shown.
        promoted: labels of every point that has no attribute of that name.
        base: labels of every point: the scope, job, instance.
        known: what a point's last bytes stand for, its label set or sets.
        keep: told the bytes that ``known`` grows by.
    """

    name: str
    given: str
    metadata: MetricMetadata
    delta: bool
    promoted: dict[str, str]
    base: dict[str, str]
    rules: OtlpRules
    limits: DecodeLimits
    deltas: DeltaStreams
    recall: Recall
    grid: ClassicGrid
    keep: Callable[[int], None]
    known: dict[bytes, Any] = field(default_factory=dict)

    def described(self, text: str) -> MetricMetadata:
        """The metadata with the sender's description."""
        if self.metadata.help != text:
            self.metadata = replace(self.metadata, help=text)
        return self.metadata

    def attributes(self, point: Any, rejections: Rejections) -> dict[str, str] | None:
        """Labels of a parsed point without its name; ``None``, counted, where the point cannot be kept."""
        labels = self.rules.labels(attributes_of(point.attributes))
        if point.time_unix_nano < 1_000_000:
            rejections.add(f"a point of '{self.given}' has no time")
        elif len(labels) > self.limits.max_labels:
            rejections.add(f"a point of '{self.given}' has {len(labels)} attributes")
        elif any(len(value) > self.limits.max_label_value_bytes for value in labels.values()):
            rejections.add(f"a point of '{self.given}' has an attribute that is too long")
        else:
            return {**self.promoted, **labels, **self.base}
        return None

    def series(self, labels: dict[str, str], suffix: str = "", **more: str) -> Labels:
        return tuple(sorted({**labels, **more, METRIC_NAME: self.name + suffix}.items()))

    def learn(self, key: bytes, series: Any, labels: int) -> None:
        """Remember what ``key`` stands for: so many label sets."""
        self.known[key] = series
        self.keep(len(key) + labels * (4 * len(key) + 300))


def exemplars_of(point: Any, series: Callable[[float], Labels]) -> list[Exemplar]:
    """A point's exemplars; ``series`` names the series that a value belongs to."""
    found = []
    for given in point.exemplars:
        which = given.WhichOneof("value")
        if which is None:
            continue
        value = float(getattr(given, which))
        labels = {"trace_id": id_of(given.trace_id, 16), "span_id": id_of(given.span_id, 8)}
        attributes = attributes_of(given.filtered_attributes)
        if _runes(labels.items()) + _runes(attributes) <= EXEMPLAR_RUNES:
            labels = dict(attributes) | labels
        ts = (given.time_unix_nano or point.time_unix_nano) // 1_000_000
        found.append(Exemplar(series(value), tuple(sorted((k, v) for k, v in labels.items() if v)), value, ts))
    return found


def _runes(pairs: Iterable[tuple[str, str]]) -> int:
    return sum(len(name) + len(value) for name, value in pairs if value)


def go_float(value: float) -> str:
    """A bound as Prometheus writes it: shortest, no exponent.

    >>> go_float(5.0), go_float(0.005), go_float(float("inf"))
    ('5', '0.005', '+Inf')
    """
    if np.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if np.isnan(value) else str(np.format_float_positional(value, trim="-"))
