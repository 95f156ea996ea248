"""Reading of selectors: the newest sample at each step, windows of samples, and what is kept where samples are gone."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.ports import OpenScan
from aiops.core.series import is_stale
from aiops.promql import streaming
from aiops.promql.context import TOO_MANY, Grid, Kernels, Notes, Source, subquery_grid
from aiops.promql.frame import Bools, Floats, Frame, Ints, Scalars, Value, Windows
from aiops.promql.plan import Plan, Selector, Subquery, duration_text, unwrap
from aiops.promql.results import joined
from aiops.promql.streaming import StreamedWindows
from aiops.promql.windows import bounds, over_windows

Blocks: TypeAlias = Iterator[tuple[slice, Floats, Bools]]
"""Parts of the series with their values and where there are any: float64 and bool [B, T]."""
BLOCK_CELLS = 1 << 20

ROLLED = {
    "min_over_time": ("low", "min"), "max_over_time": ("high", "max"), "sum_over_time": ("total", "sum"),
    "count_over_time": ("num", "sum"), "avg_over_time": ("total", "sum"), "last_over_time": ("last", "last"),
    "present_over_time": ("num", "present"),
}  # fmt: skip
"""The column of rollups that a function can do with, and what to do with it."""


class Selection(ABC):
    """The half of an evaluation that reads samples.

    Attributes:
        source: the samples of the query.
        notes: warnings and infos.
        deadline: on the monotonic clock, s.
        kernels: compiled functions; ``None`` until they are there.
    """

    def __init__(self, source: Source, notes: Notes, deadline: float, kernels: Kernels | None) -> None:
        self.source = source
        self.notes = notes
        self.deadline = deadline
        self.kernels = kernels

    @abstractmethod
    def value(self, node: Plan, grid: Grid) -> Value:
        """The value of an expression at each step."""

    def _check_size(self, series: int, steps: int) -> None:
        if series * steps > self.source.max_samples:
            raise QueryError(TOO_MANY, kind="execution")

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise QueryError("query timed out in expression evaluation", kind="timeout")

    @staticmethod
    def _scalar(value: Value) -> Floats:
        if not isinstance(value, Scalars):
            raise QueryError("expected a scalar", kind="bad_data")
        return value.values

    def instant(self, node: Selector, grid: Grid) -> tuple[Frame, Ints]:
        """The newest sample within the lookback at each step, and its index."""
        block = self.source.get(node.matchers)
        times = grid.reference(node.at, node.offset_ms)
        if not len(block):
            return Frame.empty(grid.steps), np.empty((0, grid.steps), np.int64)
        fixed = node.at is not None
        self._check_size(len(block), grid.steps)
        lo, hi = self._bounds(block.offsets, block.ts, times[:1] if fixed else times, self.source.lookback_ms)
        index = np.maximum(hi - 1, 0)
        if block.sample_count == 0:
            return Frame.empty(grid.steps), np.empty((0, grid.steps), np.int64)
        values = block.values[index]
        ok = (hi > lo) & ~is_stale(values)
        if fixed:
            values, ok, index = (np.repeat(x, grid.steps, axis=1) for x in (values, ok, index))
        frame = Frame(list(block.labels), values, ok, np.zeros(len(block), bool))
        alive = ok.any(axis=1)
        return frame.compact(), index[alive]

    def _newest(self, node: Selector, grid: Grid) -> Frame:
        old = self.source.older(grid.reference(node.at, node.offset_ms))
        if not old.any():
            return self._newest_sample(node, grid)
        # Times ascend, or are all the same.
        before, after = (replace(grid, times=grid.times[part]) for part in (old, ~old))
        frames = [self._newest_bucket(node, before)]
        return joined([*frames, self._newest_sample(node, after)] if after.steps else frames)

    def _newest_bucket(self, node: Selector, grid: Grid) -> Frame:
        """What is left of samples that are past their time: the last one of each bucket, as long as the next lasts."""
        times = grid.reference(node.at, node.offset_ms)
        found = self.source.last_of_buckets(node.matchers, times)
        if found is None:
            return Frame.empty(grid.steps)
        scan, resolution = found
        size = len(scan.labels)
        self._check_size(size, grid.steps)
        part = scan.part(0, size)
        ts = part.times()
        lo, hi = self._bounds(part.offsets, ts, times, resolution)
        ok = hi > lo
        values = part.values[np.where(ok, hi - 1, 0)] if len(ts) else np.zeros(ok.shape)
        if bool(ok.any()):
            every = duration_text(resolution)
            self.notes.add(
                "info", f"samples are past their time; the last of every {every} stands for them", node.start
            )
        return Frame(list(scan.labels), values, ok, np.zeros(size, bool)).compact()

    def _newest_sample(self, node: Selector, grid: Grid) -> Frame:
        scan = self.source.open(node.matchers) if self.kernels is not None else None
        if scan is None:
            return self.instant(node, grid)[0]
        size = len(scan.labels)
        self._check_size(size, grid.steps)
        values, ok = np.zeros((size, grid.steps)), np.zeros((size, grid.steps), bool)
        for part, own, there in self._newest_blocks(scan, node, grid):
            values[part], ok[part] = own, there
        return Frame(list(scan.labels), values, ok, np.zeros(size, bool)).compact()

    def _newest_blocks(self, scan: OpenScan, node: Selector, grid: Grid) -> Blocks:
        assert self.kernels is not None
        times = grid.reference(node.at, node.offset_ms)
        fixed = node.at is not None
        for part, values, ok in streaming.newest(
            self.kernels, scan, times[:1] if fixed else times, self.source.lookback_ms
        ):
            self.check_time()
            if fixed:
                values, ok = np.repeat(values, grid.steps, axis=1), np.repeat(ok, grid.steps, axis=1)
            yield part, values, ok

    def _bounds(self, offsets: Ints, ts: Ints, ends: Ints, length_ms: int) -> tuple[Ints, Ints]:
        if self.kernels is not None:
            lo, hi = self.kernels.bounds(offsets, ts, ends, length_ms)
            return lo, hi
        return bounds(offsets, ts, ends, length_ms)

    def windows(self, node: Plan, grid: Grid) -> Windows:
        """A range vector: a range selector's samples without staleness markers, or a subquery's."""
        node = unwrap(node)
        if isinstance(node, Selector) and node.range_ms is not None:
            block = self.source.get(node.matchers)
            offsets, ts, values = block.offsets, block.ts, block.values
            stale = is_stale(values)
            if bool(stale.any()):
                before = np.concatenate([[0], np.cumsum(~stale)]).astype(np.int64)
                offsets, ts, values = before[offsets], ts[~stale], values[~stale]
            ends = grid.reference(node.at, node.offset_ms)
            drop = np.zeros(len(block), bool)
            return Windows(list(block.labels), drop, offsets, ts, values, ends, node.range_ms, grid.times)
        if isinstance(node, Subquery):
            ends = grid.reference(node.at, node.offset_ms)
            times = subquery_grid(node, ends, self.source.max_samples)
            if not len(times):
                nothing = np.empty(0, np.int64)
                return Windows(
                    [], np.empty(0, bool), np.zeros(1, np.int64), nothing, np.empty(0), ends, node.range_ms, grid.times
                )
            inner = self.value(node.expr, replace(grid, times=times))
            frame = inner if isinstance(inner, Frame) else Frame.single((), self._scalar(inner))
            counts = frame.ok.sum(axis=1)
            offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            columns = np.nonzero(frame.ok)[1]
            return Windows(
                frame.labels, frame.drop, offsets, times[columns], frame.values[frame.ok], ends, node.range_ms,
                grid.times,
            )  # fmt: skip
        raise QueryError("expected a range vector", kind="bad_data")

    def _unread_windows(self, function: str, node: Plan, grid: Grid) -> Windows | StreamedWindows:
        """As :meth:`windows`; a range selector is left to be read part by part where that can be done."""
        node = unwrap(node)
        if isinstance(node, Selector) and node.range_ms is not None:
            rolled = self._rolled(function, node, node.range_ms, grid)
            if rolled is not None and self.kernels is not None:
                return rolled
            if rolled is not None and f"{rolled.op}_over_time" == function:
                part = rolled.scan.part(0, len(rolled.labels))
                return Windows(
                    rolled.labels, rolled.drop, part.offsets, part.times(), part.values, rolled.ends, rolled.range_ms,
                    rolled.eval_times,
                )  # fmt: skip
        if self.kernels is not None and isinstance(node, Selector) and node.range_ms is not None:
            scan = self.source.open(node.matchers)
            if scan is not None:
                labels = list(scan.labels)
                ends = grid.reference(node.at, node.offset_ms)
                return StreamedWindows(scan, labels, np.zeros(len(labels), bool), ends, node.range_ms, grid.times)
        return self.windows(node, grid)

    def _rolled(self, function: str, node: Selector, range_ms: int, grid: Grid) -> StreamedWindows | None:
        """Rollups in place of samples, where the function over them gives the same."""
        column, op = ROLLED.get(function, ("", ""))
        if not column:
            return None
        ends = grid.reference(node.at, node.offset_ms)
        scan = self.source.rollup(node.matchers, ends, range_ms, column)
        if scan is None:
            return None
        labels = list(scan.labels)
        windows = StreamedWindows(scan, labels, np.zeros(len(labels), bool), ends, range_ms, grid.times, op)
        if function == "avg_over_time":
            windows.divisor = self.source.rollup(node.matchers, ends, range_ms, "num")
            if windows.divisor is None or list(windows.divisor.labels) != labels:
                return None
        return windows

    def range_blocks(self, op: str, w: Windows | StreamedWindows, p0: Floats, p1: Floats) -> Blocks:
        """A function over windows, by blocks of series."""
        steps = len(w.ends)
        run = self.kernels.over_windows if self.kernels is not None else over_windows
        once = op != "predict_linear" and steps > 1 and bool((w.ends == w.ends[0]).all()) and _constant(p0, p1)
        ends, evals = (w.ends[:1], w.eval_times[:1]) if once else (w.ends, w.eval_times)
        a, b = (p0[:1], p1[:1]) if once else (p0, p1)
        if isinstance(w, StreamedWindows):
            assert self.kernels is not None
            for part, values, ok in streaming.over_windows(self.kernels, op, w, ends, evals, a, b):
                self.check_time()
                if once:
                    values, ok = np.repeat(values, steps, axis=1), np.repeat(ok, steps, axis=1)
                yield part, values, ok
            return
        rows = max(1, BLOCK_CELLS // max(1, len(ends)))
        for start in range(0, len(w.labels), rows):
            self.check_time()
            part = slice(start, min(start + rows, len(w.labels)))
            offsets = w.offsets[part.start : part.stop + 1]
            first, last = int(offsets[0]), int(offsets[-1])
            values, ok = run(op, offsets - first, w.ts[first:last], w.values[first:last], ends, w.range_ms, evals, a, b)
            if once:
                values, ok = np.repeat(values, steps, axis=1), np.repeat(ok, steps, axis=1)
            yield part, values, ok


def _constant(*params: Floats) -> bool:
    return all(bool(((p == p[0]) | (np.isnan(p) & np.isnan(p[0]))).all()) for p in params)
