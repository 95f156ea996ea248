"""Native histograms as values: added, scaled, asked for quantiles and shares, by Prometheus' rules
(https://prometheus.io/docs/specs/native_histograms/). All counts are floats.

Bucket ``i`` of schema ``n`` holds values in ``(2^((i-1) / 2^n), 2^(i / 2^n)]``; with custom buckets it ends at the i-th
bound, counted from 0, and the last one at infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from aiops.promql.frame import Floats, Ints

UPPER, LOWER, BOTH = 0, 1, 3
"""Which bounds are in a bucket."""
CUSTOM = -53
"""The schema of custom buckets."""
_LARGEST = 1.7976931348623157e308


class Hint(IntEnum):
    """What the sender says of a counter reset before this sample."""

    UNKNOWN, RESET, NO_RESET, GAUGE = range(4)


class Incompatible(ValueError):
    """Histograms that cannot be added: exponential and custom buckets, or custom ones of other bounds."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Of one sign: bucket numbers, ascending, and their counts."""

    index: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Floats = field(default_factory=lambda: np.empty(0))

    def merged(self, index: Ints) -> Buckets:
        """The same counts under other numbers, which may repeat; ``index`` ascends."""
        numbers, place = np.unique(index, return_inverse=True)
        counts = np.zeros(len(numbers))
        np.add.at(counts, place, self.counts)
        return Buckets(numbers, counts)

    def plus(self, other: Buckets, sign: float) -> Buckets:
        if not len(other.index):
            return self
        both = Buckets(np.concatenate([self.index, other.index]), np.concatenate([self.counts, sign * other.counts]))
        return both.merged(both.index)

    def kept(self, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Buckets:
        return Buckets(self.index[rows], self.counts[rows])

    def at(self, index: Ints) -> Floats:
        """Counts of the given buckets, 0 where there is none."""
        if not len(self.index):
            return np.zeros(len(index))
        place = np.minimum(np.searchsorted(self.index, index), len(self.index) - 1)
        return np.where(self.index[place] == index, self.counts[place], 0.0)


@dataclass(frozen=True, slots=True)
class FloatHistogram:
    """One native histogram; ``bounds`` are those of custom buckets."""

    schema: int
    count: float
    sum: float
    zero_threshold: float = 0.0
    zero_count: float = 0.0
    positive: Buckets = Buckets()
    negative: Buckets = Buckets()
    hint: Hint = Hint.UNKNOWN
    bounds: tuple[float, ...] = ()

    @property
    def custom(self) -> bool:
        return self.schema == CUSTOM

    # ------------------------------------------------------------------ arithmetic

    def scaled(self, factor: float) -> FloatHistogram:
        return replace(
            self, count=self.count * factor, sum=self.sum * factor, zero_count=self.zero_count * factor,
            positive=Buckets(self.positive.index, self.positive.counts * factor),
            negative=Buckets(self.negative.index, self.negative.counts * factor), hint=Hint.GAUGE,
        )  # fmt: skip

    def at_schema(self, schema: int) -> FloatHistogram:
        """With wider buckets; as it is where its own are as wide."""
        by = self.schema - schema
        if self.custom or by <= 0:
            return self
        positive, negative = (b.merged(((b.index - 1) >> by) + 1) for b in (self.positive, self.negative))
        return replace(self, schema=schema, positive=positive, negative=negative)

    def plus(self, other: FloatHistogram, sign: float = 1.0) -> FloatHistogram:
        """The sum, or the difference with a ``sign`` of -1, in the wider of both buckets. Raises ``Incompatible``."""
        if self.custom != other.custom or self.bounds != other.bounds:
            raise Incompatible
        a, b = self, other
        while a.zero_threshold != b.zero_threshold:
            if a.zero_threshold < b.zero_threshold:
                a = a.with_zero(b.zero_threshold)
            else:
                b = b.with_zero(a.zero_threshold)
        schema = min(a.schema, b.schema)
        a, b = a.at_schema(schema), b.at_schema(schema)
        return replace(
            a, count=a.count + sign * b.count, sum=a.sum + sign * b.sum, zero_count=a.zero_count + sign * b.zero_count,
            positive=a.positive.plus(b.positive, sign), negative=a.negative.plus(b.negative, sign), hint=Hint.GAUGE,
        )  # fmt: skip

    def with_zero(self, threshold: float) -> FloatHistogram:
        """With a zero bucket at least that wide: wider where the threshold would cut a bucket that has counts."""
        if threshold == self.zero_threshold:
            return self
        wide = threshold
        while True:
            before = wide
            for side in (self.positive, self.negative):
                lower, upper = self._edges(side.index)
                cut = (lower < wide) & (upper > wide) & (side.counts != 0)
                if cut.any():
                    wide = float(upper[cut].max())
            if wide == before:
                break
        zero, sides = self.zero_count, []
        for side in (self.positive, self.negative):
            inside = self._edges(side.index)[1] <= wide
            zero += float(side.counts[inside].sum())
            sides.append(side.kept(~inside))
        return replace(self, zero_threshold=wide, zero_count=zero, positive=sides[0], negative=sides[1])

    def resets_after(self, before: FloatHistogram) -> bool:
        """Whether the counter began anew between ``before`` and this sample."""
        if self.hint is Hint.RESET:
            return True
        if self.hint is Hint.NO_RESET:
            return False
        if self.count < before.count or self.custom != before.custom or self.bounds != before.bounds:
            return True
        if not self.custom:
            if self.schema > before.schema or self.zero_threshold < before.zero_threshold:
                return True
            before = before.with_zero(self.zero_threshold).at_schema(self.schema)
            if before.zero_threshold != self.zero_threshold or self.zero_count < before.zero_count:
                return True
        sides = ((self.positive, before.positive), (self.negative, before.negative))
        return any(bool((mine.at(theirs.index) < theirs.counts).any()) for mine, theirs in sides)

    # ------------------------------------------------------------------ buckets

    def _edges(self, index: Ints) -> tuple[Floats, Floats]:
        """Lower and upper bounds of exponential buckets, away from 0."""
        with np.errstate(over="ignore", under="ignore"):
            step = 2.0**-self.schema
            lower, upper = np.exp2((index - 1) * step), np.exp2(index * step)
        full = np.isinf(upper) & np.isfinite(lower) & (lower < _LARGEST)
        return lower, np.where(full, _LARGEST, upper)

    def all_buckets(self) -> tuple[Ints, Floats, Floats, Floats]:
        """Buckets that have counts, ascending: which bounds are in them (:class:`~aiops.core.series.HistogramPoint`),
        lower bounds, upper bounds, counts."""
        if self.custom:
            some = self.positive.kept(self.positive.counts != 0)
            ends = np.array([-math.inf, *self.bounds, math.inf])
            return np.full(len(some.index), UPPER), ends[some.index], ends[some.index + 1], some.counts
        plus, minus = (side.kept(side.counts != 0) for side in (self.positive, self.negative))
        low, high = self._edges(plus.index)
        low_minus, high_minus = (edges[::-1] for edges in self._edges(minus.index))
        zero = np.array([self.zero_count]) if self.zero_count else np.empty(0)
        return (
            np.repeat([LOWER, BOTH, UPPER], [len(minus.index), len(zero), len(plus.index)]),
            np.concatenate([-high_minus, np.full(len(zero), -self.zero_threshold), low]),
            np.concatenate([-low_minus, np.full(len(zero), self.zero_threshold), high]),
            np.concatenate([minus.counts[::-1], zero, plus.counts]),
        )

    def buckets(self) -> tuple[Floats, Floats, Floats]:
        """Lower bounds, upper bounds and counts, for interpolation: the zero bucket, and the first custom one, begin
        or end at 0 where all values are of one sign."""
        rule, lower, upper, counts = self.all_buckets()
        if self.custom:
            return np.where(np.isneginf(lower) & (upper > 0), 0.0, lower), upper, counts
        if len(self.positive.index) and not len(self.negative.index):
            lower = np.where(rule == BOTH, 0.0, lower)
        if len(self.negative.index) and not len(self.positive.index):
            upper = np.where(rule == BOTH, 0.0, upper)
        return lower, upper, counts

    def quantile(self, q: float) -> float:
        """By Prometheus' rules: between exponential bounds on a logarithmic scale, else on a linear one."""
        if math.isnan(q):
            return math.nan
        if q < 0 or q > 1:
            return math.copysign(math.inf, q)
        lower, upper, counts = self.buckets()
        if self.count == 0 or not len(counts):
            return math.nan
        upwards = math.isnan(self.sum) or q < 0.5
        rank = (q if upwards else 1 - q) * self.count
        reached = np.cumsum(counts if upwards else counts[::-1])
        place = int(np.searchsorted(reached, rank, "left"))
        if place == len(reached):
            if math.isnan(self.sum):  # observations that are not numbers lie in no bucket
                return math.nan
            place -= 1
        at = place if upwards else len(counts) - 1 - place
        low, high, count = float(lower[at]), float(upper[at]), float(counts[at])
        if math.isinf(low):
            return high
        if math.isinf(high) and self.custom:
            return low
        total = min(float(reached[place]), self.count)
        share = (rank - (total - count) if upwards else total - rank) / count
        if self.custom or low <= 0 <= high:
            return low + (high - low) * share
        a, b = math.log2(abs(low)), math.log2(abs(high))
        return math.copysign(2.0 ** (a + (b - a) * share), low)

    def fraction(self, low: float, high: float) -> float:
        """The share of observations between two values."""
        if self.count == 0 or math.isnan(low) or math.isnan(high):
            return math.nan
        if low >= high:
            return 0.0
        return (self._rank(high) - self._rank(low)) / self.count

    def _rank(self, value: float) -> float:
        """Observations below a value."""
        lower, upper, counts = self.buckets()
        below = 0.0
        for low, high, count in zip(lower.tolist(), upper.tolist(), counts.tolist(), strict=True):
            if low >= value:
                break
            if high > value:
                if math.isinf(low):
                    return below + float(count)
                if self.custom or low <= 0 <= high:
                    return below + float(count * (value - low) / (high - low))
                a, b = math.log2(abs(low)), math.log2(abs(high))
                return below + float(count * (math.log2(abs(value)) - a) / (b - a))
            below += count
        return below

    def variance(self) -> float:
        """Every observation taken at the middle of its bucket, geometric where that is exponential."""
        if self.count == 0:
            return math.nan
        lower, upper, counts = self.buckets()
        if self.custom:
            first = np.array([-math.inf, *self.bounds])
            middle = (first[self.positive.index[self.positive.counts != 0]] + upper) / 2
        else:
            with np.errstate(invalid="ignore"):
                middle = np.where((lower <= 0) & (upper >= 0), 0.0, np.copysign(np.sqrt(lower * upper), upper))
        with np.errstate(invalid="ignore"):
            return float((counts * (middle - self.sum / self.count) ** 2).sum() / self.count)
