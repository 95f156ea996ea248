"""OTLP metrics into samples, native histograms, exemplars and metadata with Prometheus' names.

Rules: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ as Prometheus 3 follows
them. An exporter sends the same attribute sets again and again, so data points stay bytes: what follows a point's
times and value is the key to a cache of label sets, and times and values, at fixed places, are read with NumPy.
Points that do not look like that are decoded in full.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from aiops.core.errors import InvalidInput
from aiops.core.ports import Clock, system_clock
from aiops.core.series import METRIC_NAME, Labels, MetricMetadata
from aiops.core.untrusted import Untrusted
from aiops.ingest.bodies import Decoded, DecodeLimits
from aiops.ingest.delta import DeltaStreams, LastSamples, Recall
from aiops.ingest.exponential import ClassicGrid
from aiops.ingest.otlp_batch import Batch
from aiops.ingest.otlp_family import CUMULATIVE, DELTA, Family, Fragment
from aiops.ingest.otlp_names import identity, metric_name, unit_word
from aiops.ingest.otlp_pending import Pending
from aiops.ingest.otlp_points import READERS
from aiops.ingest.otlp_rules import OtlpRules
from aiops.ingest.otlp_values import attributes_of
from aiops.ingest.otlp_wire import SHAPES, OuterMetrics

AGGREGATED = frozenset({"sum", "histogram", "exponential_histogram"})
CACHE_BYTES = 192 * 1024 * 1024
INFO = "target_info"
INFO_METADATA = MetricMetadata(INFO, "gauge", "", "Target metadata")
INFO_STEP_MS = 150_000
"""Half of PromQL's lookback: ``target_info`` is repeated so often over the time of a resource's points."""
INFO_STEPS = 1000


@dataclass(frozen=True, slots=True)
class ResourceLabels:
    """What a resource gives: promoted labels, ``job`` and ``instance``, its ``target_info`` (empty for none), and what
    is known of its metrics."""

    promoted: dict[str, str]
    identity: dict[str, str]
    info: Labels
    families: dict[tuple[Any, ...], Family] = field(default_factory=dict)


class MetricDecoder:
    """Decodes requests; keeps the label sets it has seen, and the totals of delta streams.

    Safe to use from several threads. After a request with delta points (:meth:`has_delta`) call :meth:`settle`
    before the next one, holding :attr:`delta_lock` all along.

    Args:
        last_samples: what the store holds of a metric, from which delta streams go on after a restart.
    """

    def __init__(
        self,
        rules: OtlpRules | None = None,
        limits: DecodeLimits | None = None,
        last_samples: LastSamples | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.rules = rules or OtlpRules()
        self.limits = limits or DecodeLimits()
        self.delta_lock = threading.RLock()
        self._deltas = DeltaStreams(
            self.rules.delta_max_streams, self.rules.delta_idle_ms, self.rules.delta_future_ms, clock
        )
        self._recall = Recall(last_samples, self.rules.delta_idle_ms)
        self._resources: dict[bytes, ResourceLabels] = {}
        self._grids: dict[str, ClassicGrid] = {}
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def parse(self, plain: bytes) -> Any:
        """The request, with its points as bytes. Raises ``InvalidInput``."""
        try:
            return OuterMetrics.FromString(plain)
        except DecodeError as error:
            raise InvalidInput("The body is not an OTLP message in protobuf.") from error

    @staticmethod
    def has_delta(request: Any) -> bool:
        """Whether any metric of the request has delta temporality."""
        return any(data.aggregation_temporality == DELTA for _, _, _, data in _metrics(request) if data is not None)

    def decode(self, plain: bytes) -> Decoded:
        """Parse and translate a request in one step. Raises ``InvalidInput``."""
        return self.translate(self.parse(plain))

    def translate(self, request: Any) -> Decoded:
        """Samples of a parsed request; points that cannot be kept are counted in ``rejected``, with the reason."""
        batch, pending, infos = Batch(), Pending(), []
        for number, resource_metrics in enumerate(request.resource_metrics):
            batch.resource = number
            own = self._resource(resource_metrics.resource)
            infos.append(own.info)
            for scope in resource_metrics.scope_metrics:
                named = (scope.scope, scope.schema_url) if self.rules.promote_scope_metadata else (b"", "")
                for metric in scope.metrics:
                    self._metric(own, named, metric, batch, pending)
        pending.flush(batch)
        for number, info in enumerate(infos):
            if info and (hull := batch.hull(number)):
                times = info_times(*hull)
                batch.add_series(info, times, [1.0] * len(times))
                batch.metadata[INFO] = INFO_METADATA
        return Decoded(batch.collected(), batch.rejections.count, batch.rejections.text)

    def settle(self, stored: bool) -> None:
        """Keep the totals of the last request where it was stored; else it will come again, and they go back."""
        if stored:
            self._deltas.commit()
        else:
            self._deltas.rollback()

    def _metric(
        self, resource: ResourceLabels, scope: tuple[bytes, str], metric: Any, batch: Batch, pending: Pending
    ) -> None:
        shape, data = _data_of(metric)
        name = metric.name
        if data is None or not name:
            batch.rejections.add("a metric has no name or no data")
            return
        points = list(data.data_points)
        temporality = data.aggregation_temporality
        if shape in AGGREGATED and temporality not in (CUMULATIVE, DELTA):
            _refuse(batch, metric, points, "neither cumulative nor delta")
            return
        key = (scope, name, metric.unit, shape, data.is_monotonic, temporality)
        family = resource.families.get(key) or self._family(resource, scope, metric, shape, data)
        if not family.name:
            _refuse(batch, metric, points, "a metric's name has no letters or digits")
            return
        if not points:
            batch.rejections.add(f"a metric has no points ('{_safe(name)}')")
            return
        resource.families[key] = family
        batch.metadata[family.name] = family.described(metric.description)
        READERS[shape](family, batch, pending, points)

    def _family(self, resource: ResourceLabels, scope: tuple[bytes, str], metric: Any, shape: str, data: Any) -> Family:
        kind = "counter" if shape == "sum" and data.is_monotonic else shape
        name = metric_name(metric.name, metric.unit, kind, self.rules.strategy)
        words = {"sum": "gauge", "exponential_histogram": "histogram"}
        self._keep(len(scope[0]) + 2 * len(metric.name) + 800)
        return Family(
            name=name,
            given=_safe(metric.name),
            metadata=MetricMetadata(name, words.get(kind, kind), unit_word(metric.unit), ""),
            delta=data.aggregation_temporality == DELTA,
            promoted=resource.promoted,
            base=self._scope(*scope) | resource.identity,
            rules=self.rules,
            limits=self.limits,
            deltas=self._deltas,
            recall=self._recall,
            grid=self._grid(name, shape),
            keep=self._keep,
        )

    def _grid(self, name: str, shape: str) -> ClassicGrid:
        found = self._grids.get(name) or ClassicGrid(self.rules.classic_scale)
        if shape == "exponential_histogram":
            self._grids[name] = found
        return found

    def _resource(self, raw: bytes) -> ResourceLabels:
        known = self._resources.get(raw)
        if known is None:
            try:
                attributes = attributes_of(Resource.FromString(raw).attributes)
            except DecodeError as error:
                raise InvalidInput("A resource is not valid protobuf or UTF-8.") from error
            info = self.rules.info_labels(attributes)
            labels = tuple(sorted({**info, METRIC_NAME: INFO}.items())) if info else ()
            known = ResourceLabels(self.rules.promoted(attributes), identity(attributes), labels)
            self._keep(4 * len(raw) + 500)
            self._resources[raw] = known
        return known

    def _scope(self, raw: bytes, schema_url: str) -> dict[str, str]:
        if not raw:
            return {}
        try:
            own = InstrumentationScope.FromString(raw)
        except DecodeError as error:
            raise InvalidInput("A scope is not valid protobuf or UTF-8.") from error
        return self.rules.scope_labels(own.name, own.version, schema_url, attributes_of(own.attributes))

    def _keep(self, size: int) -> None:
        """Account for bytes that a cache grows by; all caches are emptied where they hold too many."""
        with self._lock:
            self._kept_bytes += size
            if self._kept_bytes > CACHE_BYTES:
                self._resources.clear()
                self._kept_bytes = 0


def info_times(first_ms: int, last_ms: int) -> list[int]:
    """When ``target_info`` has samples: at both ends and, over a time that is not absurd, at steps in between."""
    if last_ms - first_ms > INFO_STEPS * INFO_STEP_MS:
        return [first_ms, last_ms]
    return sorted({*range(first_ms, last_ms, INFO_STEP_MS), last_ms})


def _data_of(metric: Any) -> tuple[str, Any]:
    for shape in SHAPES:
        if metric.HasField(shape):
            return shape, getattr(metric, shape)
    return "", None


def _metrics(request: Any) -> Iterator[tuple[Any, Any, str, Any]]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield (scope, metric, *_data_of(metric))


def _refuse(batch: Batch, metric: Any, points: Fragment, reason: str) -> None:
    batch.rejections.add(f"{reason} ('{_safe(metric.name)}')", max(1, len(points)))


def _safe(text: str) -> str:
    return Untrusted(text).display(80)
