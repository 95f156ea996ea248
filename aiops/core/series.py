"""Metric series: labels, matchers, blocks of samples, query results.

Times are int64 milliseconds since the epoch, UTC. Values are float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label pairs sorted by name, no empty values; the metric name is the ``__name__`` pair."""

METRIC_NAME = "__name__"
STALE_BITS = 0x7FF0000000000002
STALE_NAN = float(np.uint64(STALE_BITS).view(np.float64))
"""Prometheus' staleness marker; keep its bits, tell it from NaN with :func:`is_stale`."""


def labels_of(pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> Labels:
    """Canonical labels: sorted, empty values dropped.

    >>> labels_of({"job": "api", "__name__": "up", "zone": ""})
    (('__name__', 'up'), ('job', 'api'))
    """
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple(sorted((k, v) for k, v in items if v != ""))


def is_stale(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True where a value is the staleness marker, bit for bit."""
    return np.asarray(values.view(np.uint64) == np.uint64(STALE_BITS))


class MatchOp(StrEnum):
    """How a matcher compares; regexes are RE2 and fully anchored."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher; a missing label matches as the empty string."""

    name: str
    op: MatchOp
    value: str

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op.value}"{escaped}"'


@dataclass(frozen=True, slots=True)
class MetricMetadata:
    """What a source says of a metric family.

    ``type`` is Prometheus' word: counter, gauge, histogram, summary, info, stateset, unknown.
    """

    name: str
    type: str = "unknown"
    unit: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One exemplar of a series: a measured value with labels of its own, such as ``trace_id``. ``ts`` is ms UTC."""

    series: Labels
    labels: Labels
    value: float
    ts: int


@dataclass(frozen=True, slots=True)
class NativeHistogram:
    """One native-histogram sample, lossless: ``payload`` is a ``prometheus.Histogram`` protobuf message.

    ``ts`` is ms UTC, the message's own. Messages of remote write 1.0 and 2.0 are the same on the wire.
    """

    series: Labels
    ts: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """Samples of many series in CSR form.

    Attributes:
        labels: label sets, length S.
        offsets: int64 [S + 1]; samples of series i are ``[offsets[i], offsets[i + 1])``.
        ts: int64 [N], ms UTC, ascending within a series.
        values: float64 [N]; may hold NaN and staleness markers.
    """

    labels: tuple[Labels, ...]
    offsets: NDArray[np.int64]
    ts: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sample_count(self) -> int:
        return len(self.ts)

    def series(self, i: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Timestamps and values of series ``i`` (views)."""
        a, b = int(self.offsets[i]), int(self.offsets[i + 1])
        return self.ts[a:b], self.values[a:b]

    @classmethod
    def empty(cls) -> SampleBlock:
        return cls((), np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))

    @classmethod
    def build(
        cls, series: Iterable[tuple[Labels, Iterable[int] | NDArray[np.int64], Iterable[float] | NDArray[np.float64]]]
    ) -> SampleBlock:
        """From ``(labels, timestamps, values)`` triples, in the given order."""
        labels: list[Labels] = []
        ts: list[NDArray[np.int64]] = []
        values: list[NDArray[np.float64]] = []
        for label_set, times, numbers in series:
            labels.append(label_set)
            ts.append(np.asarray(times if isinstance(times, np.ndarray) else list(times), np.int64))
            values.append(np.asarray(numbers if isinstance(numbers, np.ndarray) else list(numbers), np.float64))
        if not labels:
            return cls.empty()
        offsets = np.concatenate([[0], np.cumsum([len(t) for t in ts])]).astype(np.int64)
        return cls(tuple(labels), offsets, np.concatenate(ts), np.concatenate(values))

    @classmethod
    def at(cls, ts_ms: int, samples: Iterable[tuple[Labels, float]]) -> SampleBlock:
        """One sample a series, all at ``ts_ms``."""
        pairs = list(samples)
        n = len(pairs)
        return cls(
            tuple(p[0] for p in pairs),
            np.arange(n + 1, dtype=np.int64),
            np.full(n, ts_ms, np.int64),
            np.array([p[1] for p in pairs], np.float64),
        )


@dataclass(frozen=True, slots=True)
class SeriesPart:
    """Samples of some series, where series that were sampled together share their times.

    Attributes:
        offsets: int64 [S + 1]; values of series i are ``[offsets[i], offsets[i + 1])``.
        values: float64 [N].
        clock: int64 [S]; times of series i are those of ``clock[i]``, as many as it has values.
        clock_offsets: int64 [C + 1]; times of clock c are ``ts[clock_offsets[c] : clock_offsets[c + 1]]``.
        ts: int64, ms UTC, ascending within a clock.
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.float64]
    clock: NDArray[np.int64]
    clock_offsets: NDArray[np.int64]
    ts: NDArray[np.int64]

    @classmethod
    def of(cls, offsets: NDArray[np.int64], ts: NDArray[np.int64], values: NDArray[np.float64]) -> SeriesPart:
        """From CSR arrays, with a clock for each series."""
        return cls(offsets, values, np.arange(len(offsets) - 1, dtype=np.int64), offsets, ts)

    def times(self) -> NDArray[np.int64]:
        """The time of every value: int64 [N]."""
        lengths = np.diff(self.offsets)
        start = self.clock_offsets[self.clock]
        return self.ts[np.repeat(start - self.offsets[:-1], lengths) + np.arange(len(self.values))]


class ResultType(StrEnum):
    """Prometheus' result types."""

    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"


@dataclass(frozen=True, slots=True)
class HistogramPoint:
    """A native histogram of an answer.

    Attributes:
        ts: ms UTC.
        buckets: those with counts, ascending: (which bounds are in it, lower bound, upper bound, count). The first is
            0 for the upper one only, 1 for the lower one only, 3 for both, as in Prometheus' API.
    """

    ts: int
    count: float
    sum: float
    buckets: tuple[tuple[int, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a PromQL query gives, local or remote.

    ``block`` holds one sample a series for a vector, one label-less series for a scalar, any number
    of samples for a matrix. ``text`` is the value of a string result. ``partial`` says that a remote
    source answered only in part; its warnings say why.
    """

    type: ResultType
    block: SampleBlock
    text: str = ""
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    partial: bool = False
    sorted: bool = field(default=False)
    """True where the query itself orders the series (``sort``, ``topk``)."""
    samples_read: int = 0
    """Samples that our own engine read for it."""
    histograms: tuple[tuple[Labels, tuple[HistogramPoint, ...]], ...] = ()
    """Series of native histograms beside those of ``block``, which may have the same labels at other times."""
