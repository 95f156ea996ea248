"""Evaluation of a plan over a grid of steps. Every node is evaluated once, for all steps together."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.ports import OpenScan
from aiops.core.series import METRIC_NAME, Labels, is_stale
from aiops.promql import aggregate, binary, functions, histogram, streaming
from aiops.promql.calls import HANDLERS, info_selector
from aiops.promql.context import TOO_MANY, Grid, Kernels, Notes, Source, subquery_grid
from aiops.promql.frame import Bools, Floats, Frame, Ints, Scalars, Value, Windows, grouping, label_value
from aiops.promql.plan import (
    Aggregation,
    Binary,
    Call,
    Kind,
    Number,
    Paren,
    Plan,
    Selector,
    String,
    Subquery,
    Unary,
    children,
    duration_text,
    number_text,
    quote,
    unwrap,
)
from aiops.promql.results import joined
from aiops.promql.streaming import StreamedWindows
from aiops.promql.windows import bounds, over_windows

Blocks: TypeAlias = Iterator[tuple[slice, Floats, Bools]]
"""Parts of the series with their values and where there are any: float64 and bool [B, T]."""
BLOCK_CELLS = 1 << 20
_COUNTER_NAME = re.compile(r"_(total|sum|count|bucket)\Z")

RANGE_OPS = {
    "rate": "rate", "increase": "increase", "delta": "delta", "irate": "irate", "idelta": "idelta", "deriv": "deriv",
    "changes": "changes", "resets": "resets", "predict_linear": "predict_linear",
    "double_exponential_smoothing": "smoothing", "quantile_over_time": "quantile", "mad_over_time": "mad",
    **{f"{op}_over_time": op for op in (
        "avg", "min", "max", "sum", "count", "stddev", "stdvar", "last", "first", "present",
        "ts_of_min", "ts_of_max", "ts_of_last", "ts_of_first")},
}  # fmt: skip

ROLLED = {
    "min_over_time": ("low", "min"), "max_over_time": ("high", "max"), "sum_over_time": ("total", "sum"),
    "count_over_time": ("num", "sum"), "avg_over_time": ("total", "sum"), "last_over_time": ("last", "last"),
    "present_over_time": ("num", "present"),
}  # fmt: skip
"""The column of rollups that a function can do with, and what to do with it."""


class Evaluator:
    """Evaluates one query. Not shared between threads."""

    source: Source
    notes: Notes

    def __init__(self, source: Source, notes: Notes, deadline: float, kernels: Kernels | None) -> None:
        self.source = source
        self.notes = notes
        self.deadline = deadline
        self.kernels = kernels

    # -------------------------------------------------------------- planning of scans

    def plan_scans(self, node: Plan, grid: Grid) -> None:
        """Tell the source which times each selector needs."""
        if isinstance(node, Selector):
            times = grid.reference(node.at, node.offset_ms)
            length = self.source.lookback_ms if node.range_ms is None else node.range_ms
            if len(times):
                self.source.want(node.matchers, int(times.min()) - length + 1, int(times.max()))
        elif isinstance(node, Subquery):
            ends = grid.reference(node.at, node.offset_ms)
            if len(ends):
                times = subquery_grid(node, ends, self.source.max_samples)
                self.plan_scans(node.expr, replace(grid, times=times))
        elif isinstance(node, Call) and node.function == "info":
            self.plan_scans(node.args[0], grid)
            self.plan_scans(info_selector(node.args), grid)
        else:
            for child in children(node):
                self.plan_scans(child, grid)

    def _check_size(self, series: int, steps: int) -> None:
        if series * steps > self.source.max_samples:
            raise QueryError(TOO_MANY, kind="execution")

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise QueryError("query timed out in expression evaluation", kind="timeout")

    # -------------------------------------------------------------- expressions

    def value(self, node: Plan, grid: Grid) -> Value:
        self.check_time()
        match node:
            case Number():
                return Scalars(np.full(grid.steps, node.value))
            case String():
                return node.value
            case Paren():
                return self.value(node.expr, grid)
            case Unary():
                inner = self.value(node.expr, grid)
                if node.op == "+":
                    return inner
                if isinstance(inner, Frame):
                    return inner.with_values(-inner.values).merged()
                return Scalars(-self._scalar(inner))
            case Selector():
                return self._newest(node, grid)
            case Binary():
                return self._binary(node, grid)
            case Aggregation():
                return self._aggregate(node, grid)
            case Call():
                return self._call(node, grid)
            case _:
                raise QueryError("a range vector is not allowed here", kind="execution")

    def vector(self, node: Plan, grid: Grid) -> Frame:
        value = self.value(node, grid)
        if not isinstance(value, Frame):
            raise QueryError(f"expected an instant vector, got {unwrap(node).kind}", kind="bad_data")
        return value

    def scalar(self, node: Plan, grid: Grid) -> Floats:
        return self._scalar(self.value(node, grid))

    def text(self, node: Plan, grid: Grid) -> str:
        value = self.value(node, grid)
        if not isinstance(value, str):
            raise QueryError("expected a string", kind="bad_data")
        return value

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
        if self.kernels is not None and isinstance(node, Selector) and node.range_ms is not None:
            rolled = self._rolled(function, node, node.range_ms, grid)
            if rolled is not None:
                return rolled
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

    # -------------------------------------------------------------- operators

    def _binary(self, node: Binary, grid: Grid) -> Value:
        left, right = self.value(node.left, grid), self.value(node.right, grid)
        if isinstance(left, Scalars) and isinstance(right, Scalars):
            return Scalars(binary.between_scalars(node.op, left.values, right.values))
        if isinstance(left, Frame) and isinstance(right, Frame):
            if node.op in binary.SETS:
                return binary.set_operation(node.op, left, right, node.matching)
            return binary.between_vectors(node.op, left, right, node.matching, returns_bool=node.returns_bool)
        if isinstance(left, Frame):
            return binary.with_scalar(
                node.op, left, self._scalar(right), scalar_left=False, returns_bool=node.returns_bool
            )
        if isinstance(right, Frame):
            return binary.with_scalar(
                node.op, right, self._scalar(left), scalar_left=True, returns_bool=node.returns_bool
            )
        raise QueryError("binary expression must contain only scalar and instant vector types")

    def _aggregate(self, node: Aggregation, grid: Grid) -> Frame:
        if node.op in aggregate.STREAMED:
            return self._streamed(node, grid)
        if node.op in ("topk", "bottomk"):
            return self._leading(node, grid)
        frame = self.vector(node.expr, grid)
        assert node.param is not None
        if node.op == "count_values":
            label = self.text(node.param, grid)
            if not functions.valid_label(label):
                raise QueryError(f'invalid label name "{label}"', kind="execution")
            return aggregate.count_values(frame, label, node.labels, node.without)
        param = self.scalar(node.param, grid)
        if node.op == "quantile":
            self._check_quantile(param, node.param.start)
            return aggregate.quantile(frame, param, node.labels, node.without)
        if node.op == "limitk":
            return aggregate.limit(frame, param, node.labels, node.without)
        if node.op == "limit_ratio":
            for ratio in np.unique(param[np.abs(param) > 1]).tolist():
                got, cap = histogram.short(ratio), histogram.short(float(np.sign(ratio)))
                message = f"ratio value should be between -1 and 1, got {got}, capping to {cap}"
                self.notes.add("warning", message, node.param.start)
            return aggregate.limit_ratio(frame, param)
        raise QueryError(f"the aggregation {node.op} is not supported", kind="execution")

    def _streamed(self, node: Aggregation, grid: Grid) -> Frame:
        kernel = self.kernels.accumulate if self.kernels is not None else None
        labels, drop, blocks = self._series_blocks(node.expr, grid)
        ids, groups = grouping(labels, node.labels, not node.without)
        state = aggregate.Accumulator.start(node.op, len(groups), grid.steps, kernel)
        for part, values, ok in blocks:
            state.add(values, ok, ids[part])
        values, ok = state.result()
        return Frame(groups, values, ok, aggregate.group_drop(drop, ids, len(groups))).compact()

    def _leading(self, node: Aggregation, grid: Grid) -> Frame:
        """``topk`` and ``bottomk``."""
        assert node.param is not None
        labels, drop, blocks = self._series_blocks(node.expr, grid)
        param = self.scalar(node.param, grid)
        ids, _ = grouping(labels, node.labels, not node.without)
        leaders = aggregate.Leaders.start(node.op, param, ids, grid.steps)
        for part, values, ok in blocks:
            leaders.add(part, values, ok)
        rows = leaders.rows
        frame = Frame([labels[i] for i in rows.tolist()], leaders.values, leaders.ok, drop[rows])
        return aggregate.top(frame, node.op, param, node.labels, node.without)

    def _series_blocks(self, node: Plan, grid: Grid) -> tuple[list[Labels], Bools, Blocks]:
        """An instant vector by blocks of series, so that the matrix need not be built: labels, ``drop`` and blocks."""
        inner = unwrap(node)
        if isinstance(inner, Call) and inner.function in RANGE_OPS:
            windows, p0, p1 = self._range_arguments(inner, grid)
            return windows.labels, self._range_drop(inner, windows), self._range_blocks(inner, windows, p0, p1)
        if isinstance(inner, Selector) and inner.range_ms is None and self.kernels is not None:
            old = bool(self.source.older(grid.reference(inner.at, inner.offset_ms)).any())
            scan = self.source.open(inner.matchers) if not old else None
            if scan is not None:
                labels = list(scan.labels)
                return labels, np.zeros(len(labels), bool), self._newest_blocks(scan, inner, grid)
        frame = self.vector(node, grid)
        return frame.labels, frame.drop, iter([(slice(0, len(frame)), frame.values, frame.ok)])

    def _check_quantile(self, q: Floats, start: int) -> None:
        for value in histogram.no_quantiles(q):
            self.notes.add("warning", f"quantile value should be between 0 and 1, got {value}", start)

    # -------------------------------------------------------------- functions

    def _call(self, node: Call, grid: Grid) -> Value:
        name, args = node.function, node.args
        if name in RANGE_OPS:
            return self._range_function(node, grid)
        if name in functions.ELEMENTWISE:
            frame = self.vector(args[0], grid)
            return frame.with_values(functions.elementwise(name, frame.values))
        if name in functions.DATE_PARTS:
            if not args:
                return Frame.single((), functions.date_part(name, grid.times / 1000.0))
            frame = self.vector(args[0], grid)
            return frame.with_values(functions.date_part(name, frame.values))
        handler = HANDLERS.get(name)
        if handler is None:
            raise QueryError(f'the function "{name}" is not supported', kind="execution")
        return handler(self, args, grid)

    def _range_arguments(self, node: Call, grid: Grid) -> tuple[Windows | StreamedWindows, Floats, Floats]:
        name, args = node.function, node.args
        p0 = p1 = np.zeros(grid.steps)
        at = next(i for i, a in enumerate(args) if unwrap(a).kind is Kind.MATRIX)
        windows = self._unread_windows(name, args[at], grid)
        params = [self.scalar(a, grid) for i, a in enumerate(args) if i != at]
        if params:
            p0 = params[0]
        if len(params) > 1:
            p1 = params[1]
        if name == "quantile_over_time" and windows.labels:
            self._check_quantile(p0, args[0].start)
        if name == "double_exponential_smoothing" and windows.labels:
            for value, word, letter in ((p0, "smoothing", "sf"), (p1, "trend", "tf")):
                wrong = value[(value <= 0) | (value >= 1)]
                if len(wrong):
                    got = number_text(float(wrong[0])) if np.isinf(wrong[0]) else f"{float(wrong[0]):f}"
                    message = f"invalid {word} factor. Expected: 0 < {letter} < 1, got: {got}"
                    raise QueryError(message, kind="execution")
        return windows, p0, p1

    def _range_blocks(self, node: Call, windows: Windows | StreamedWindows, p0: Floats, p1: Floats) -> Blocks:
        """:meth:`range_blocks`, with a note where a rate is taken of what does not look like a counter."""
        arg = unwrap(node.args[0])
        named = isinstance(arg, Selector) and _COUNTER_NAME.search(arg.name)
        blocks = self.range_blocks(RANGE_OPS[node.function], windows, p0, p1)
        if node.function not in ("rate", "increase") or named:
            yield from blocks
            return
        told: set[str] = set()
        for part, values, ok in blocks:
            for row in np.nonzero(ok.any(axis=1))[0].tolist():
                metric = label_value(windows.labels[part.start + row], METRIC_NAME)
                if metric and metric not in told and not _COUNTER_NAME.search(metric):
                    told.add(metric)
                    self.notes.add(
                        "info",
                        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "
                        f"{quote(metric)}",
                        node.args[0].start,
                    )
            yield part, values, ok

    @staticmethod
    def _range_drop(node: Call, windows: Windows | StreamedWindows) -> Bools:
        keeps = node.function in ("last_over_time", "first_over_time")
        return windows.drop if keeps else np.ones(len(windows.labels), bool)

    def _range_function(self, node: Call, grid: Grid) -> Frame:
        windows, p0, p1 = self._range_arguments(node, grid)
        self._check_size(len(windows.labels), grid.steps)
        parts = list(self._range_blocks(node, windows, p0, p1))
        if not parts:
            return Frame.empty(grid.steps)
        values, ok = np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts])
        return Frame(windows.labels, values, ok, self._range_drop(node, windows)).compact()


def _constant(*params: Floats) -> bool:
    return all(bool(((p == p[0]) | (np.isnan(p) & np.isnan(p[0]))).all()) for p in params)
