"""Counters and histograms made of events, by the events' own time.

Events fall into bins of their own time; a bin closes a little after its end, and its sums become cumulative samples,
as a scraped process would have shown them. So history that arrives at once becomes series over its own time, events
that are a little late still count, once, in the bin that is open, and those later than ``late_ms`` are left out of the
series (never out of the store). A series starts with a zero one bin before its first value, so that a rate sees the
first event; between events it repeats its value, and after ``idle_ms`` without any it ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from aiops.core.series import METRIC_NAME, Labels, SampleBlock, labels_of

STEP_MS = 15_000
GRACE_MS = 5_000
LATE_MS = 600_000
IDLE_MS = 3_600_000
LIVE_MS = 120_000
"""A source whose newest event is at most so old is live: its series repeat their value between events."""
FINE_MS = 7_200_000
"""Of bins longer ago than this only the series that changed are written."""
LIMIT = 20_000


@dataclass(slots=True)
class _Row:
    """One counter, or one histogram: its cumulative count in each bucket, then sum and count."""

    series: tuple[Labels, ...]
    total: list[float]
    last_ms: int = 0
    ts: list[int] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)


@dataclass(slots=True)
class _Source:
    """Bins of one source of events; each moves on by its own events."""

    rows: dict[tuple[str, Labels], _Row] = field(default_factory=dict)
    pending: dict[int, dict[tuple[str, Labels], list[float]]] = field(default_factory=dict)
    closed: int = -(1 << 62)
    newest_ms: int = -(1 << 62)
    live: bool = False


class EventSeries:
    """Not thread-safe.

    Every event names its source, such as the service: history of one does not make live events of another late.

    Attributes:
        refused: events of new series past ``limit``.
        late: events left out for being too late.
    """

    def __init__(self, limit: int = LIMIT, step_ms: int = STEP_MS, grace_ms: int = GRACE_MS) -> None:
        self._limit = limit
        self._step_ms = step_ms
        self._grace_ms = grace_ms
        self._sources: dict[str, _Source] = {}
        self._size = 0
        self.refused = 0
        self.late = 0

    def __len__(self) -> int:
        return self._size

    def count(self, source: str, name: str, labels: Labels, at_ms: int, value: float = 1.0) -> None:
        """Add to a counter; ``labels`` without the name."""
        if (sums := self._sums(source, (name, labels), None, at_ms)) is not None:
            sums[0] += value

    def observe(
        self,
        source: str,
        name: str,
        labels: Labels,
        at_ms: int,
        value: float,
        bounds: tuple[float, ...],
        weight: float = 1.0,
    ) -> None:
        """Add to a histogram of these upper bounds, above which there is ``+Inf``."""
        sums = self._sums(source, (name, labels), bounds, at_ms)
        if sums is None:
            return
        for i in range(bisect_left(bounds, value), len(bounds) + 1):
            sums[i] += weight
        sums[-2] += value * weight
        sums[-1] += weight

    def _sums(
        self, source: str, key: tuple[str, Labels], bounds: tuple[float, ...] | None, at_ms: int
    ) -> list[float] | None:
        of = self._sources.get(source)
        if of is None:
            of = self._sources[source] = _Source()
        row = of.rows.get(key)
        if row is None:
            if self._size >= self._limit:
                self.refused += 1
                return None
            self._size += 1
            series = _series(*key, bounds)
            row = of.rows[key] = _Row(series, [0.0] * len(series))
        number = at_ms // self._step_ms
        if number <= of.closed:
            if at_ms < (of.closed + 1) * self._step_ms - LATE_MS:
                self.late += 1
                return None
            number = of.closed + 1
        of.newest_ms = max(of.newest_ms, at_ms)
        bin_ = of.pending.setdefault(number, {})
        sums = bin_.get(key)
        if sums is None:
            sums = bin_[key] = [0.0] * len(row.total)
        return sums

    def close(self, now_ms: int) -> SampleBlock:
        """The samples of all bins that have ended by now, each once."""
        last = (now_ms - self._grace_ms) // self._step_ms - 1
        for name, source in list(self._sources.items()):
            for number in sorted(n for n in source.pending if n <= last):
                self._close_bin(source, number, now_ms)
            source.live = source.live or source.newest_ms >= now_ms - LIVE_MS
            if source.live and source.newest_ms >= now_ms - IDLE_MS and source.closed < last:
                self._close_bin(source, last, now_ms)
            elif not source.pending and source.newest_ms < now_ms - IDLE_MS - LIVE_MS:
                self._size -= len(source.rows)
                del self._sources[name]
        return _taken([row for source in self._sources.values() for row in source.rows.values()])

    def _close_bin(self, source: _Source, number: int, now_ms: int) -> None:
        end = (number + 1) * self._step_ms
        for key, sums in source.pending.pop(number, {}).items():
            row = source.rows.get(key)
            if row is None:
                continue
            if not row.last_ms:
                row.ts.append(end - self._step_ms)
                row.values.append([0.0] * len(row.total))
            row.total = [a + b for a, b in zip(row.total, sums, strict=True)]
            row.last_ms = end
        everything = end >= now_ms - FINE_MS
        for key, row in list(source.rows.items()):
            if row.last_ms == end or (everything and row.last_ms):
                row.ts.append(end)
                row.values.append(list(row.total))
            waits = any(key in bin_ for bin_ in source.pending.values())
            if row.last_ms and end - row.last_ms > IDLE_MS and len(row.ts) <= 1 and not waits:
                del source.rows[key]
                self._size -= 1
        source.closed = number


def _taken(rows: Sequence[_Row]) -> SampleBlock:
    labels: list[Labels] = []
    lengths: list[int] = []
    ts: list[int] = []
    values: list[float] = []
    for row in rows:
        if not row.ts:
            continue
        columns = np.array(row.values, np.float64).T
        for one, column in zip(row.series, columns, strict=True):
            labels.append(one)
            lengths.append(len(row.ts))
            ts += row.ts
            values += column.tolist()
        row.ts, row.values = [], []
    if not labels:
        return SampleBlock.empty()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return SampleBlock(tuple(labels), offsets, np.array(ts, np.int64), np.array(values, np.float64))


def _series(name: str, labels: Labels, bounds: Sequence[float] | None) -> tuple[Labels, ...]:
    if bounds is None:
        return (labels_of([*labels, (METRIC_NAME, name)]),)
    edges = [*(f"{b:g}" for b in bounds), "+Inf"]
    buckets = [labels_of([*labels, (METRIC_NAME, f"{name}_bucket"), ("le", edge)]) for edge in edges]
    return (*buckets, *(labels_of([*labels, (METRIC_NAME, name + suffix)]) for suffix in ("_sum", "_count")))
