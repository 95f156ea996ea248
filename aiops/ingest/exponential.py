"""Exponential histograms: merging, Prometheus' native form, and classic buckets that PromQL can read.

OpenTelemetry's bucket ``i`` at scale ``s`` holds values in ``(base^i, base^(i+1)]``, ``base = 2^(2^-s)``
(https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram). Prometheus' bucket ``i`` ends at
``base^i``, so an index is one higher there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops.ingest.otlp_wire import NativeMessage

Counts = NDArray[np.int64]
LOWEST_SCHEMA, HIGHEST_SCHEMA = -4, 8
ZERO_THRESHOLD = 1e-128
GAP = 2
"""Empty buckets up to so many are written out instead of starting a new span."""
MAX_BOUNDS = 160
MAX_WIDTH = 4096
"""Merged histograms that would span more buckets are brought to a lower scale."""
_NONE: Counts = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Side:
    """Counts of one sign's buckets from index ``offset`` on."""

    offset: int = 0
    counts: Counts = field(default_factory=lambda: _NONE)

    def scaled_down(self, by: int) -> Side:
        """At a scale lower by ``by``: 2^by buckets become one."""
        if by <= 0 or not len(self.counts):
            return self
        index = (self.offset + np.arange(len(self.counts))) >> by
        first = int(index[0])
        counts = np.zeros(int(index[-1]) - first + 1, np.int64)
        np.add.at(counts, index - first, self.counts)
        return Side(first, counts)

    def plus(self, other: Side) -> Side:
        if not len(self.counts) or not len(other.counts):
            return self if len(self.counts) else other
        first = min(self.offset, other.offset)
        last = max(self.offset + len(self.counts), other.offset + len(other.counts))
        counts = np.zeros(last - first, np.int64)
        for side in (self, other):
            counts[side.offset - first : side.offset - first + len(side.counts)] += side.counts
        return Side(first, counts)

    def trimmed(self) -> Side:
        """Without empty buckets at its ends."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return Side()
        return Side(self.offset + int(filled[0]), self.counts[filled[0] : filled[-1] + 1])


@dataclass(frozen=True, slots=True, eq=False)
class Exponential:
    """One exponential histogram. ``sum`` is 0 where the sender gives none."""

    scale: int
    count: int
    sum: float
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: Side = Side()
    negative: Side = Side()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exponential) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        sides = [(side.offset, side.counts.tobytes()) for side in (self.positive, self.negative)]
        return self.scale, self.count, self.sum, self.zero_count, self.zero_threshold, *sides

    @classmethod
    def of(cls, point: Any) -> Exponential:
        """From an OTLP ``ExponentialHistogramDataPoint``. Raises ``ValueError`` where counts are out of range."""
        sides = []
        for buckets in (point.positive, point.negative):
            try:
                counts = np.array(buckets.bucket_counts, np.int64)
            except OverflowError as error:
                raise ValueError("a bucket count is too large") from error
            sides.append(Side(buckets.offset, counts).trimmed())
        if point.count >= 1 << 63 or point.zero_count >= 1 << 63:
            raise ValueError("a count is too large")
        return cls(point.scale, point.count, point.sum, point.zero_count, point.zero_threshold, *sides)

    def at_scale(self, scale: int) -> Exponential:
        """At that scale, or at its own where it is lower."""
        by = self.scale - scale
        if by <= 0:
            return self
        return replace(
            self, scale=scale, positive=self.positive.scaled_down(by), negative=self.negative.scaled_down(by)
        )

    def plus(self, other: Exponential) -> Exponential | None:
        """The sum, at the lower scale; ``None`` where the zero buckets differ."""
        if self.zero_threshold != other.zero_threshold:
            return None
        a, b = self.at_scale(other.scale), other.at_scale(self.scale)
        while max(_width(a.positive, b.positive), _width(a.negative, b.negative)) > MAX_WIDTH:
            a, b = a.at_scale(a.scale - 1), b.at_scale(b.scale - 1)
        return replace(
            a,
            count=a.count + b.count,
            sum=a.sum + b.sum,
            zero_count=a.zero_count + b.zero_count,
            positive=a.positive.plus(b.positive),
            negative=a.negative.plus(b.negative),
        )

    def native(self, ts_ms: int, stale_bits: int = 0) -> bytes:
        """As a ``prometheus.Histogram`` message; finer scales than Prometheus' 8 are brought down to it.

        Args:
            stale_bits: those of the staleness marker where the sender says that there is no value; else 0.

        Raises:
            ValueError: a scale below Prometheus' lowest schema.
        """
        if self.scale < LOWEST_SCHEMA:
            raise ValueError(f"the scale {self.scale} is below {LOWEST_SCHEMA}, the lowest that Prometheus knows")
        if stale_bits:
            stale = float(np.uint64(stale_bits).view(np.float64))
            return bytes(NativeMessage(count_int=stale_bits, sum=stale, timestamp=ts_ms).SerializeToString())
        own = self.at_scale(HIGHEST_SCHEMA)
        message = NativeMessage(
            count_int=own.count,
            sum=own.sum,
            schema=own.scale,
            zero_threshold=own.zero_threshold or ZERO_THRESHOLD,
            zero_count_int=own.zero_count,
            timestamp=ts_ms,
        )
        _spans(own.negative, message.negative_spans, message.negative_deltas)
        _spans(own.positive, message.positive_spans, message.positive_deltas)
        return bytes(message.SerializeToString())


def _width(a: Side, b: Side) -> int:
    """Buckets from the first of both to the last of both."""
    ends = [(side.offset, side.offset + len(side.counts)) for side in (a, b) if len(side.counts)]
    return max(end for _, end in ends) - min(start for start, _ in ends) if ends else 0


def _spans(side: Side, spans: Any, deltas: Any) -> None:
    filled = np.flatnonzero(side.counts)
    if not len(filled):
        return
    keep: list[int] = []
    at = 0
    starts = np.flatnonzero(np.concatenate([[True], np.diff(filled) > GAP + 1]))
    for a, b in zip(starts.tolist(), [*starts[1:].tolist(), len(filled)], strict=True):
        first, last = int(filled[a]), int(filled[b - 1]) + 1
        spans.add(offset=first - at if len(keep) else side.offset + first + 1, length=last - first)
        keep += range(first, last)
        at = last
    deltas.extend(np.diff(side.counts[keep], prepend=0).tolist())


class ClassicGrid:
    """The bounds of one metric's classic buckets: powers of ``2^(2^-scale)``, the same for all its series.

    Series with different bounds cannot be summed by ``le``, so the grid only grows: in range as values come, and
    coarser where a sender's scale is lower or where there would be more than :data:`MAX_BOUNDS`. A bound of the grid
    is a bound of every sender's buckets, so each count is exact, but for negative values that lie on a bound: they
    are counted above it, since OpenTelemetry's buckets are closed on the side away from zero.
    """

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.positive: tuple[int, int] | None = None
        self.negative: tuple[int, int] | None = None
        self.zero = False
        self.version = 0

    def bounds(self) -> list[float]:
        """Ascending upper bounds, +Inf left out."""
        base = 2.0**-self.scale
        down = [] if self.negative is None else range(self.negative[1], self.negative[0] - 1, -1)
        up = [] if self.positive is None else range(self.positive[0], self.positive[1] + 1)
        return [*(-_power(base, k) for k in down), *([0.0] if self.zero else []), *(_power(base, k) for k in up)]

    def cover(self, histogram: Exponential) -> None:
        """Widen the grid until it holds every value of the histogram."""
        before = (self.scale, self.positive, self.negative, self.zero)
        self._coarsen(histogram.scale)
        while True:
            own = histogram.at_scale(self.scale)
            self.positive = _hull(self.positive, own.positive)
            self.negative = _hull(self.negative, own.negative)
            if sum(b - a + 1 for a, b in (side for side in (self.positive, self.negative) if side)) <= MAX_BOUNDS:
                break
            self._coarsen(self.scale - 1)
        self.zero = self.zero or self.negative is not None or histogram.zero_count > 0
        self.version += before != (self.scale, self.positive, self.negative, self.zero)

    def counts(self, histogram: Exponential) -> NDArray[np.float64]:
        """Cumulative counts at :meth:`bounds`, after :meth:`cover` of the same histogram."""
        own = histogram.at_scale(self.scale)
        down = _dense(own.negative, self.negative)
        up = _dense(own.positive, self.positive)
        below = np.cumsum(down[::-1])
        total = int(below[-1]) if len(below) else 0
        # At the bound -base^k the values of bucket k and above it are counted; those of the lowest one at 0.
        found = [below - down[::-1] if self.negative is not None else below]
        zeros = own.zero_count
        if self.zero:
            found.append(np.array([total + (zeros if own.zero_threshold == 0 else 0)]))
        above = total + np.cumsum(up)
        if self.positive is not None:
            base = 2.0**-self.scale
            bounds = np.array([_power(base, k) for k in range(self.positive[0], self.positive[1] + 1)])
            above = above + np.where(bounds >= own.zero_threshold, zeros, 0)
        found.append(above)
        return np.concatenate(found).astype(np.float64)

    def _coarsen(self, scale: int) -> None:
        by = self.scale - scale
        if by <= 0:
            return
        self.scale = scale
        self.positive = self.positive and (self.positive[0] >> by, -(-self.positive[1] >> by))
        self.negative = self.negative and (self.negative[0] >> by, -(-self.negative[1] >> by))


def _hull(held: tuple[int, int] | None, side: Side) -> tuple[int, int] | None:
    """Numbers of the bounds from the lower end of the lowest filled bucket to the upper end of the highest."""
    filled = side.trimmed()
    if not len(filled.counts):
        return held
    first, last = filled.offset, filled.offset + len(filled.counts)
    return (first, last) if held is None else (min(held[0], first), max(held[1], last))


def _dense(side: Side, hull: tuple[int, int] | None) -> Counts:
    """Counts by bound: what lies between bound k - 1 and bound k is at k."""
    if hull is None:
        return _NONE
    out = np.zeros(hull[1] - hull[0] + 1, np.int64)
    filled = side.trimmed()
    at = filled.offset + 1 - hull[0]
    out[at : at + len(filled.counts)] = filled.counts
    return out


def _power(base: float, exponent: int) -> float:
    """2^(base * exponent); the ends of the range of floats are infinity and zero."""
    try:
        return math.ldexp(2.0 ** ((exponent * base) % 1.0), math.floor(exponent * base))
    except OverflowError:
        return math.inf
