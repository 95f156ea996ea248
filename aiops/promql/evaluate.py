"""Evaluation of a plan over a grid of steps. Every node is evaluated once, for all steps together."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Labels
from aiops.promql import aggregate, binary, functions, histogram
from aiops.promql.calls import HANDLERS, info_selector
from aiops.promql.context import Grid, subquery_grid
from aiops.promql.frame import Bools, Floats, Frame, Scalars, Value, Windows, grouping, label_value
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
    number_text,
    quote,
    unwrap,
)
from aiops.promql.selection import Blocks, Selection
from aiops.promql.streaming import StreamedWindows

_COUNTER_NAME = re.compile(r"_(total|sum|count|bucket)\Z")

RANGE_OPS = {
    "rate": "rate", "increase": "increase", "delta": "delta", "irate": "irate", "idelta": "idelta", "deriv": "deriv",
    "changes": "changes", "resets": "resets", "predict_linear": "predict_linear",
    "double_exponential_smoothing": "smoothing", "quantile_over_time": "quantile", "mad_over_time": "mad",
    **{f"{op}_over_time": op for op in (
        "avg", "min", "max", "sum", "count", "stddev", "stdvar", "last", "first", "present",
        "ts_of_min", "ts_of_max", "ts_of_last", "ts_of_first")},
}  # fmt: skip


class Evaluator(Selection):
    """Evaluates one query. Not shared between threads."""

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
