"""Functions over windows of one series' native histograms, as those of floats (``windows.py``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from aiops.promql.frame import Ints
from aiops.promql.native_histogram import FloatHistogram


@dataclass(frozen=True, slots=True)
class NativeSeries:
    """Samples of one series, ascending, and before which of them the counter began anew."""

    ts: Ints
    values: list[FloatHistogram]
    resets: list[bool]

    @classmethod
    def of(cls, ts: Ints, values: list[FloatHistogram]) -> NativeSeries:
        return cls(ts, values, [False, *(now.resets_after(before) for before, now in pairwise(values))])


def total(values: Iterable[FloatHistogram]) -> FloatHistogram:
    """The sum of one or more. Raises ``Incompatible``."""
    first, *rest = values
    for one in rest:
        first = first.plus(one)
    return first


def extrapolated(
    own: NativeSeries, a: int, b: int, end_ms: int, range_ms: int, *, counter: bool, per_second: bool
) -> FloatHistogram:
    """``rate``, ``increase`` and ``delta`` as of floats; a counter is extrapolated to where its count was zero."""
    values, first = own.values, own.values[a]
    change = values[b - 1]
    if not (counter and own.resets[a + 1]):
        change = change.plus(first, -1.0)
    if counter:
        for i in range(a + 2, b):
            if own.resets[i]:
                change = change.plus(values[i - 1])
        change = change.at_schema(min(one.schema for one in values[a:b]))
    sampled = int(own.ts[b - 1] - own.ts[a]) / 1000
    spacing = sampled / (b - a - 1)
    to_start, to_end = (int(own.ts[a]) - end_ms + range_ms) / 1000, (end_ms - int(own.ts[b - 1])) / 1000
    if to_start >= spacing * 1.1:
        to_start = spacing / 2
    if counter and change.count > 0 and first.count >= 0:
        to_start = min(to_start, sampled * (first.count / change.count))
    if to_end >= spacing * 1.1:
        to_end = spacing / 2
    factor = (sampled + to_start + to_end) / sampled
    return change.scaled(factor / (range_ms / 1000) if per_second else factor)
