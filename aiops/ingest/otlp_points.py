"""Data points of each shape into samples. Points that look like earlier ones wait in ``Pending``, to be read all at
once; the others, and those of delta streams, are read here one by one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from struct import unpack_from
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
    SummaryDataPoint,
)

from aiops.core.series import STALE_BITS, STALE_NAN, Labels, NativeHistogram
from aiops.ingest.delta import Step
from aiops.ingest.exponential import Exponential
from aiops.ingest.otlp_batch import Batch
from aiops.ingest.otlp_family import NO_VALUE, Family, Fragment, exemplars_of, go_float
from aiops.ingest.otlp_pending import (
    FIELD,
    INT,
    NANOS,
    NUMBER_HEADS,
    HistogramSeries,
    Pending,
    is_number,
    split_histogram,
)

Floats = NDArray[np.float64]
Row = tuple[Labels, int, float]
"""Series, time (ms), value."""


def read_numbers(family: Family, batch: Batch, pending: Pending, points: Fragment) -> None:
    """Points of a gauge or a sum."""
    rows: list[Row] = []
    for head in NUMBER_HEADS if family.known else ():
        points = _known_numbers(family, batch, pending, points, head, rows)
    for raw in points:
        point = _parsed(NumberDataPoint, raw, family, batch)
        labels = None if point is None else family.attributes(point, batch.rejections)
        if point is None or labels is None:
            continue
        series = family.series(labels)
        which = point.WhichOneof("value")
        value = STALE_NAN if point.flags & NO_VALUE else float(getattr(point, which)) if which else 0.0
        _number(family, batch, series, point.start_time_unix_nano // NANOS, point.time_unix_nano // NANOS, value, rows)
        if point.exemplars:
            batch.exemplars += exemplars_of(point, lambda _value, own=series: own)  # type: ignore[misc]
        if not (point.flags or point.exemplars):
            _learn_number(family, raw, point, series)
    if rows:
        times = [at for _, at, _ in rows]
        batch.saw(min(times), max(times))
        batch.add([series for series, _, _ in rows], np.array(times, np.int64), np.array([v for _, _, v in rows]))


def _known_numbers(
    family: Family, batch: Batch, pending: Pending, points: Fragment, head: int, rows: list[Row]
) -> Fragment:
    """Take points whose bytes after a head of that many are known; returns the others."""
    series = [family.known.get(raw[head:]) if is_number(raw, head) else None for raw in points]
    taken = [found is not None for found in series]
    known = points if all(taken) else list(compress(points, taken))
    own: list[Labels] = list(filter(None, series))
    if family.delta:
        for raw, labels in zip(known, own, strict=True):
            start = unpack_from("<Q", raw, 1)[0] // NANOS if head == 3 * FIELD else 0
            at = unpack_from("<Q", raw, head - 2 * FIELD + 1)[0] // NANOS
            (value,) = unpack_from("<q" if raw[head - FIELD] == INT else "<d", raw, head - 8)
            _number(family, batch, labels, start, at, float(value), rows)
    else:
        pending.numbers(head, known, own, batch.resource)
    return [] if known is points else [raw for raw, was in zip(points, taken, strict=True) if not was]


def _number(
    family: Family, batch: Batch, series: Labels, start_ms: int, at_ms: int, value: float, rows: list[Row]
) -> None:
    if at_ms <= 0:
        batch.rejections.add(f"a point of '{family.given}' has no time")
        return
    if not family.delta or value != value:
        rows.append((series, at_ms, value))
        return

    def recall() -> tuple[int, float] | None:
        found = family.recall.values(((family.name, series),), at_ms)
        return None if found is None else (found[0], float(found[1][0]))

    step = family.deltas.add(series, start_ms, at_ms, value, lambda total, delta: total + delta, recall)
    _count_refusal(step, family, batch)
    if step.total is not None:
        if step.begun_ms:
            rows.append((series, step.begun_ms, 0.0))
        rows.append((series, at_ms, step.total))


def _learn_number(family: Family, raw: bytes, point: Any, series: Labels) -> None:
    head = (3 if point.start_time_unix_nano else 2) * FIELD
    if is_number(raw, head):
        try:
            tail = NumberDataPoint.FromString(raw[head:])
        except DecodeError:
            return
        if len(tail.attributes) == len(point.attributes) and len(tail.ListFields()) == bool(point.attributes):
            family.learn(raw[head:], series, 1)


# ------------------------------------------------------------------ histograms


def read_histograms(family: Family, batch: Batch, pending: Pending, points: Fragment) -> None:
    """Points of a histogram with explicit bounds."""
    for raw in points:
        head, end = split_histogram(raw)
        series = family.known.get(raw[head:end]) if head else None
        if series is not None and not family.delta:
            pending.histogram(head, raw, series, batch.resource)
            continue
        point = _parsed(HistogramDataPoint, raw, family, batch)
        if point is None:
            continue
        if series is None:
            series = _checked_histogram(family, batch, point)
            if series is None:
                continue
            if not (point.flags or point.exemplars) and end > head:
                _learn_histogram(family, raw[:head], raw[head:end], point, series)
        vector = [*np.cumsum(point.bucket_counts[:-1], dtype=np.float64), point.count, point.count, point.sum]
        values = np.array(vector[: len(series.labels)], np.float64)
        if point.flags & NO_VALUE:
            values = np.full(len(values), STALE_NAN)
        start_ms, at_ms = point.start_time_unix_nano // NANOS, point.time_unix_nano // NANOS
        _histogram(family, batch, series, start_ms, at_ms, values)
        batch.exemplars += exemplars_of(point, series.bucket)


def _checked_histogram(family: Family, batch: Batch, point: Any) -> HistogramSeries | None:
    labels = family.attributes(point, batch.rejections)
    if labels is None:
        return None
    bounds, counts = list(point.explicit_bounds), point.bucket_counts
    if counts and len(counts) != len(bounds) + 1:
        batch.rejections.add(f"a histogram of '{family.given}' has {len(counts)} counts for {len(bounds)} bounds")
        return None
    if not all(a < b for a, b in zip([-np.inf, *bounds], [*bounds, np.inf], strict=True)):
        batch.rejections.add(f"the bounds of a histogram of '{family.given}' do not ascend")
        return None
    return _histogram_series(family, labels, bounds if counts else [], point.HasField("sum"))


def _histogram_series(family: Family, labels: dict[str, str], bounds: list[float], with_sum: bool) -> HistogramSeries:
    found = [(f"{family.name}_bucket", family.series(labels, "_bucket", le=go_float(b))) for b in (*bounds, np.inf)]
    found += [(family.name + end, family.series(labels, end)) for end in ("_count", "_sum")[: 1 + with_sum]]
    return HistogramSeries(tuple(s for _, s in found), tuple(n for n, _ in found), tuple(bounds))


def _learn_histogram(family: Family, head: bytes, key: bytes, point: Any, series: HistogramSeries) -> None:
    try:
        tail, start = HistogramDataPoint.FromString(key), HistogramDataPoint.FromString(head)
    except DecodeError:
        return
    same = tail == HistogramDataPoint(attributes=point.attributes, explicit_bounds=point.explicit_bounds)
    if same and len(start.bucket_counts) == len(point.bucket_counts) == len(series.bounds) + 1:
        family.learn(key, series, len(series.labels))


def _histogram(
    family: Family, batch: Batch, series: HistogramSeries, start_ms: int, at_ms: int, values: Floats
) -> None:
    batch.saw(at_ms, at_ms)
    if not family.delta or bool(np.isnan(values).any()):
        batch.add_at(series.labels, at_ms, values)
        return
    step = family.deltas.add(
        series.labels[-1], start_ms, at_ms, values, _added,
        lambda: family.recall.values(tuple(zip(series.names, series.labels, strict=True)), at_ms),
    )  # fmt: skip
    _count_refusal(step, family, batch)
    if step.total is not None:
        if step.begun_ms:
            batch.add_at(series.labels, step.begun_ms, np.zeros(len(values)))
        batch.add_at(series.labels, at_ms, step.total)


def _added(total: Floats, delta: Floats) -> Floats | None:
    """The sum; ``None`` where the bounds have changed."""
    return total + delta if total.shape == delta.shape else None


# ------------------------------------------------------------------ exponential histograms, summaries


def read_exponential(family: Family, batch: Batch, pending: Pending, points: Fragment) -> None:  # noqa: ARG001
    """Points of an exponential histogram: native histograms and, where wanted, classic buckets."""
    for raw in points:
        point = _parsed(ExponentialHistogramDataPoint, raw, family, batch)
        labels = None if point is None else family.attributes(point, batch.rejections)
        if point is None or labels is None:
            continue
        at_ms, series = point.time_unix_nano // NANOS, family.series(labels)
        gone = bool(point.flags & NO_VALUE)
        try:
            total = Exponential.of(point)
            total.native(at_ms)
        except ValueError as error:
            batch.rejections.add(f"{error} ('{family.given}')")
            continue
        begun_ms = 0
        if family.delta and not gone:
            start_ms = point.start_time_unix_nano // NANOS
            step = family.deltas.add(series, start_ms, at_ms, total, Exponential.plus, lambda: None)
            _count_refusal(step, family, batch)
            if step.total is None:
                continue
            total, begun_ms = step.total, step.begun_ms
        batch.saw(at_ms, at_ms)
        batch.histograms.append(NativeHistogram(series, at_ms, total.native(at_ms, STALE_BITS if gone else 0)))
        bucket: Callable[[float], Labels] = lambda _value, own=series: own  # type: ignore[misc]  # noqa: E731
        if family.rules.exponential_as_classic:
            classic, values = _as_classic(family, labels, total, point.HasField("sum"))
            bucket = classic.bucket
            if begun_ms:
                batch.add_at(classic.labels, begun_ms, np.zeros(len(values)))
            batch.add_at(classic.labels, at_ms, np.full(len(values), STALE_NAN) if gone else values)
        batch.exemplars += exemplars_of(point, bucket)


def _as_classic(
    family: Family, labels: dict[str, str], histogram: Exponential, with_sum: bool
) -> tuple[HistogramSeries, Floats]:
    grid = family.grid
    grid.cover(histogram)
    bounds, counts = np.array(grid.bounds()), grid.counts(histogram)
    keep = np.isfinite(bounds) & (np.diff(bounds, prepend=-np.inf) > 0)
    key = f"{grid.version} {with_sum} {sorted(labels.items())}".encode()
    series = family.known.get(key)
    if series is None:
        series = _histogram_series(family, labels, bounds[keep].tolist(), with_sum)
        family.learn(key, series, len(series.labels))
    tail = [histogram.count, histogram.count, histogram.sum][: 2 + with_sum]
    return series, np.concatenate([counts[keep], np.array(tail, np.float64)])


def read_summaries(family: Family, batch: Batch, pending: Pending, points: Fragment) -> None:  # noqa: ARG001
    """Points of a summary."""
    for raw in points:
        point = _parsed(SummaryDataPoint, raw, family, batch)
        labels = None if point is None else family.attributes(point, batch.rejections)
        if point is None or labels is None:
            continue
        at_ms = point.time_unix_nano // NANOS
        rows = [(family.series(labels, quantile=go_float(q.quantile)), q.value) for q in point.quantile_values]
        rows += [(family.series(labels, "_count"), float(point.count)), (family.series(labels, "_sum"), point.sum)]
        values = np.array([STALE_NAN if point.flags & NO_VALUE else value for _, value in rows])
        batch.saw(at_ms, at_ms)
        batch.add_at([series for series, _ in rows], at_ms, values)


READERS: dict[str, Callable[[Family, Batch, Pending, Fragment], None]] = {
    "gauge": read_numbers,
    "sum": read_numbers,
    "histogram": read_histograms,
    "exponential_histogram": read_exponential,
    "summary": read_summaries,
}


def _parsed(build: Any, raw: bytes, family: Family, batch: Batch) -> Any:
    try:
        return build.FromString(raw)
    except DecodeError:
        batch.rejections.add(f"a point of '{family.given}' is not valid protobuf or UTF-8")
        return None


def _count_refusal(step: Step[Any], family: Family, batch: Batch) -> None:
    if step.reason:
        batch.rejections.add(f"{step.reason} ('{family.given}')")
