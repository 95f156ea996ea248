"""What can be asked: live metric names with type and help, their labels and label values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from aiops.core.errors import AiopsError, PermanentError, TransientError
from aiops.core.ports import Clock, MetricQuerier, system_clock
from aiops.core.principal import Principal
from aiops.core.series import METRIC_NAME, Matcher, MatchOp, MetricMetadata

SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created")
LOOK_BACK_MS = 3_600_000
CACHE_MS = 30_000
MAX_SERIES = 5_000

LabelValues = Mapping[str, frozenset[str]]


class Catalogue(Protocol):
    """Metric names and label values a principal can see."""

    def metrics(self) -> Mapping[str, MetricMetadata]:
        """By name; a histogram may be listed under its base name or its series' names."""
        ...

    def labels(self, metric: str) -> LabelValues | None:
        """Label names and values of a metric's series; ``None`` where that is not known."""
        ...


def resolve(metrics: Mapping[str, MetricMetadata], name: str) -> MetricMetadata | None:
    """Metadata of a series name, also where only its family or only its series is listed."""
    if name in metrics:
        return metrics[name]
    for suffix in SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in metrics:
            return metrics[name.removesuffix(suffix)]
    for suffix in ("_bucket", "_count", "_total"):
        if name + suffix in metrics:
            found = metrics[name + suffix]
            return MetricMetadata(name, "histogram" if suffix == "_bucket" else found.type, found.unit, found.help)
    return None


def fold_name(name: str) -> str:
    """A series' family: without the suffix of a histogram or summary part."""
    for suffix in ("_bucket", "_sum", "_count"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


class KnownCatalogue:
    """A fixed list: for tests, boards and look-ups made elsewhere."""

    def __init__(
        self, metadata: Iterable[MetricMetadata], labels: Mapping[str, Mapping[str, Iterable[str]]] | None = None
    ) -> None:
        self._metrics = {m.name: m for m in metadata}
        self._labels = {m: {k: frozenset(v) for k, v in by.items()} for m, by in (labels or {}).items()}

    def metrics(self) -> Mapping[str, MetricMetadata]:
        return self._metrics

    def labels(self, metric: str) -> LabelValues | None:
        return self._labels.get(metric)


T = TypeVar("T")


class LiveCatalogue:
    """Names from metadata and from the series themselves, cached for :data:`CACHE_MS`, per principal."""

    def __init__(self, querier: MetricQuerier, principal: Principal, clock: Clock = system_clock) -> None:
        self._querier = querier
        self._principal = principal
        self._clock = clock
        self._cache: dict[str, tuple[int, object]] = {}
        self._lock = threading.Lock()

    def _cached(self, key: str, make: Callable[[], T]) -> T:
        now = self._clock()
        with self._lock:
            held = self._cache.get(key)
        if held is not None and now - held[0] < CACHE_MS:
            return held[1]  # type: ignore[return-value]
        value = make()
        with self._lock:
            self._cache[key] = (now, value)
        return value

    def metrics(self) -> Mapping[str, MetricMetadata]:
        """Raises ``TransientError`` when the source is down; one that gives nonsense counts as down as well."""
        try:
            return self._cached("", self._read_metrics)
        except PermanentError as error:
            raise TransientError(error.message, hint=error.hint) from error

    def _read_metrics(self) -> Mapping[str, MetricMetadata]:
        now = self._clock()
        names = self._querier.label_values(METRIC_NAME, (), now - LOOK_BACK_MS, now, self._principal)
        told = {m.name: m for m in self._querier.metadata(self._principal)}
        found: dict[str, MetricMetadata] = {}
        for name in names:
            known = resolve(told, name)
            found[name] = MetricMetadata(
                name, known.type if known else "unknown", known.unit if known else "", known.help if known else ""
            )
        return found

    def labels(self, metric: str) -> LabelValues | None:
        return self._cached(metric, lambda: self._read_labels(metric))

    def _read_labels(self, metric: str) -> LabelValues | None:
        now = self._clock()
        name = metric
        if metric not in self.metrics():
            name = next((metric + s for s in ("_count", "_bucket", "_total") if metric + s in self.metrics()), "")
            if not name:
                return None
        try:
            series = self._querier.series(
                [[Matcher(METRIC_NAME, MatchOp.EQUAL, name)]], now - LOOK_BACK_MS, now, self._principal, MAX_SERIES
            )
        except AiopsError:
            return None
        values: dict[str, set[str]] = {}
        for labels in series:
            for key, value in labels:
                if key != METRIC_NAME:
                    values.setdefault(key, set()).add(value)
        return {k: frozenset(v) for k, v in values.items()}


class Catalogues:
    """One live catalogue per principal's scope."""

    def __init__(self, querier: MetricQuerier, clock: Clock = system_clock) -> None:
        self._querier = querier
        self._clock = clock
        self._by_scope: dict[object, LiveCatalogue] = {}
        self._lock = threading.Lock()

    def of(self, principal: Principal) -> LiveCatalogue:
        with self._lock:
            if principal.scope not in self._by_scope:
                if len(self._by_scope) > 200:
                    self._by_scope.clear()
                self._by_scope[principal.scope] = LiveCatalogue(self._querier, principal, self._clock)
            return self._by_scope[principal.scope]
