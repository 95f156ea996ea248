"""Selectors read part by part: what is decoded is a part of the series, on a few threads, never all samples at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from aiops.core.ports import OpenScan
from aiops.core.series import Labels, SeriesPart, is_stale
from aiops.promql.context import Kernels
from aiops.promql.frame import Bools, Floats, Ints

PART_SAMPLES = 1 << 19
PART_CELLS = 1 << 20
MOST_THREADS = 4


@dataclass(slots=True)
class StreamedWindows:
    """A range selector that is not read yet; attributes as those of :class:`aiops.promql.frame.Windows`.

    Attributes:
        op: what to do with the windows instead of what the query says, where they are of rollups.
        divisor: windows of the same series whose sums the results are divided by.
    """

    scan: OpenScan
    labels: list[Labels]
    drop: Bools
    ends: Ints
    range_ms: int
    eval_times: Ints
    op: str = ""
    divisor: OpenScan | None = None


def over_windows(
    kernels: Kernels, op: str, w: StreamedWindows, ends: Ints, evals: Ints, p0: Floats, p1: Floats
) -> Iterator[tuple[slice, Floats, Bools]]:
    """A function over windows, by parts of series: values and where there are any, float64 and bool [S, T]."""

    def work(first: int, last: int) -> tuple[Floats, Bools]:
        part = without_stale(w.scan.part(first, last), kernels)
        values, ok = kernels.part_windows(w.op or op, part, ends, w.range_ms, evals, p0, p1)
        if w.divisor is not None:
            counts, _ = kernels.part_windows("sum", w.divisor.part(first, last), ends, w.range_ms, evals, p0, p1)
            values = np.divide(values, counts, out=values, where=ok)
        return values, ok

    return _by_parts(w.scan, len(ends), work)


def newest(kernels: Kernels, scan: OpenScan, ends: Ints, lookback_ms: int) -> Iterator[tuple[slice, Floats, Bools]]:
    """The newest sample of each series within the lookback, unless it is a staleness marker, by parts of series."""

    def work(first: int, last: int) -> tuple[Floats, Bools]:
        values, ok = np.zeros((last - first, len(ends))), np.zeros((last - first, len(ends)), bool)
        kernels.part_newest(scan.part(first, last), ends, lookback_ms, values, ok)
        return values, ok

    return _by_parts(scan, len(ends), work)


def without_stale(part: SeriesPart, kernels: Kernels) -> SeriesPart:
    """The part without staleness markers."""
    if not kernels.any_stale(part.values):
        return part
    kept = ~is_stale(part.values)
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return SeriesPart.of(before[part.offsets], part.times()[kept], part.values[kept])


def _by_parts(
    scan: OpenScan, steps: int, work: Callable[[int, int], tuple[Floats, Bools]]
) -> Iterator[tuple[slice, Floats, Bools]]:
    """The results of ``work`` in order, a few of them worked on ahead."""
    series = len(scan.labels)
    if not series:
        return
    each = max(1, scan.sample_count // series)
    rows = max(1, min(PART_SAMPLES // each, PART_CELLS // max(1, steps)))
    parts = [slice(first, min(first + rows, series)) for first in range(0, series, rows)]
    if len(parts) == 1:
        yield (parts[0], *work(0, series))
        return
    waiting: deque[tuple[slice, Future[tuple[Floats, Bools]]]] = deque()
    try:
        for part in parts:
            waiting.append((part, _pool().submit(work, part.start, part.stop)))
            if len(waiting) > _threads():
                done, future = waiting.popleft()
                yield (done, *future.result())
        while waiting:
            done, future = waiting.popleft()
            yield (done, *future.result())
    finally:
        for _, future in waiting:
            future.cancel()


def _threads() -> int:
    return min(MOST_THREADS, os.cpu_count() or 1)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads(), thread_name_prefix="promql")
