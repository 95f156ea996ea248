"""Expressions whose values are native histograms, below the functions that make numbers of them.

Only what such expressions usually are is known: selectors, ``rate`` and its like over a range, ``sum`` and ``avg``,
and factors. A query that needs native histograms elsewhere is refused (``native.py``), never answered without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, HistogramPoint, Labels
from aiops.promql.context import Grid
from aiops.promql.frame import SAME_LABELS, Bools, Floats, Frame, Ints, grouping, label_value, without_name
from aiops.promql.native import HistogramReader
from aiops.promql.native_histogram import FloatHistogram, Hint, Incompatible
from aiops.promql.native_message import decode
from aiops.promql.native_windows import NativeSeries, extrapolated, total
from aiops.promql.plan import Aggregation, Binary, Call, Kind, Paren, Plan, Selector, Unary, quote, unwrap
from aiops.promql.windows import bounds

if TYPE_CHECKING:
    from aiops.promql.evaluate import Evaluator

OVER_RANGES = frozenset(
    {"rate", "increase", "delta", "irate", "idelta", "sum_over_time", "avg_over_time", "last_over_time"}
)
READERS = {
    "histogram_quantile": 1, "histogram_quantiles": 0, "histogram_fraction": 2, "histogram_count": 0,
    "histogram_sum": 0, "histogram_avg": 0, "histogram_stddev": 0, "histogram_stdvar": 0,
}  # fmt: skip
"""Functions that make numbers of native histograms, and which of their arguments holds them."""


@dataclass(slots=True)
class HistogramVector:
    """Native histograms at steps: as :class:`Frame`, with the cells of each row by step."""

    labels: list[Labels] = field(default_factory=list)
    drop: list[bool] = field(default_factory=list)
    cells: list[dict[int, FloatHistogram]] = field(default_factory=list)

    def numbers(self, steps: int, of: Callable[[FloatHistogram, int], float]) -> Frame:
        """A number of each histogram, by it and its step; the name goes at the end."""
        values, ok = np.zeros((len(self.labels), steps)), np.zeros((len(self.labels), steps), bool)
        for row, cells in enumerate(self.cells):
            for step, one in cells.items():
                values[row, step] = of(one, step)
                ok[row, step] = True
        return Frame(list(self.labels), values, ok, np.ones(len(self.labels), bool)).compact()

    def series(self, times: Ints) -> tuple[tuple[Labels, tuple[HistogramPoint, ...]], ...]:
        """As an answer has them, without names that are dropped, by labels. Raises ``QueryError`` where two meet."""
        found: dict[Labels, dict[int, FloatHistogram]] = {}
        for labels, drop, cells in zip(self.labels, self.drop, self.cells, strict=True):
            own = found.setdefault(without_name(labels) if drop else labels, {})
            if own.keys() & cells.keys():
                raise QueryError(SAME_LABELS, kind="execution")
            own.update(cells)
        return tuple(
            (labels, tuple(_point(int(times[step]), one) for step, one in sorted(cells.items())))
            for labels, cells in sorted(found.items())
        )

    def mapped(self, change: Callable[[FloatHistogram, int], FloatHistogram]) -> HistogramVector:
        cells = [{step: change(one, step) for step, one in own.items()} for own in self.cells]
        return HistogramVector(self.labels, [True] * len(self.labels), cells)


def _point(ts: int, one: FloatHistogram) -> HistogramPoint:
    rows = zip(*(column.tolist() for column in one.all_buckets()), strict=True)
    return HistogramPoint(ts, one.count, one.sum, tuple(rows))


def selectors_within(plan: Plan) -> list[Selector]:
    """Selectors of an expression of native histograms; empty where it is none that is known."""
    plan = unwrap(plan)
    match plan:
        case Selector():
            return [plan] if plan.range_ms is None else []
        case Unary():
            return selectors_within(plan.expr)
        case Aggregation() if plan.op in ("sum", "avg"):
            return selectors_within(plan.expr)
        case Call() if plan.function in OVER_RANGES:
            inner = unwrap(plan.args[0])
            return [inner] if isinstance(inner, Selector) else []
        case Binary() if plan.op in ("*", "/"):
            sides = [side for side in (plan.left, plan.right) if side.kind is not Kind.SCALAR]
            return selectors_within(sides[0]) if len(sides) == 1 and (plan.op == "*" or sides[0] is plan.left) else []
        case _:
            return []


def readable(plan: Plan) -> list[Selector]:
    """Selectors below ``plan`` whose native histograms are read where they stand."""
    if isinstance(plan, Call) and plan.function in READERS:
        return selectors_within(plan.args[READERS[plan.function]])
    return []


def vector(e: Evaluator, plan: Plan, grid: Grid) -> HistogramVector:
    """The native histograms of an expression at each step; without any where none are stored, or it is not known."""
    reader, found = e.source.reader, selectors_within(plan)
    if isinstance(reader, HistogramReader) and any(reader.may_hold_histograms(one.matchers) for one in found):
        return _Vectors(e, reader).value(plan, grid)
    return HistogramVector()


@dataclass(slots=True)
class _Samples:
    """What is stored of one series, ascending; ``None`` marks its end."""

    ts: Ints
    values: list[FloatHistogram | None]


class _Vectors:
    def __init__(self, evaluator: Evaluator, reader: HistogramReader) -> None:
        self.e = evaluator
        self.reader = reader

    def value(self, plan: Plan, grid: Grid) -> HistogramVector:
        self.e.check_time()
        match plan:
            case Paren():
                return self.value(plan.expr, grid)
            case Unary():
                inner = self.value(plan.expr, grid)
                return inner if plan.op == "+" else inner.mapped(lambda one, _: one.scaled(-1.0))
            case Selector():
                return self.newest(plan, grid)
            case Aggregation():
                return self.aggregated(plan, grid)
            case Call():
                return self.over_range(plan, grid)
            case Binary():
                scalar_left = plan.left.kind is Kind.SCALAR
                factor = self.e.scalar(plan.left if scalar_left else plan.right, grid)
                if plan.op == "/":
                    with np.errstate(all="ignore"):
                        factor = np.asarray(1.0 / factor)
                inner = self.value(plan.right if scalar_left else plan.left, grid)
                return inner.mapped(lambda one, step: one.scaled(float(factor[step])))
            case _:
                raise QueryError("native histograms cannot be read here", kind="execution")

    def samples(self, node: Selector) -> dict[Labels, _Samples]:
        if node.matchers not in self.e.source.hulls:
            return {}
        low, high = self.e.source.hulls[node.matchers]
        most = self.e.source.max_samples
        found: dict[Labels, tuple[list[int], list[FloatHistogram | None]]] = {}
        for one in self.reader.all_histograms(node.matchers, low, high, self.e.source.principal, most):
            times, values = found.setdefault(one.series, ([], []))
            try:
                values.append(decode(one.payload))
            except ValueError as error:
                raise QueryError(
                    f"a native histogram of {one.series} cannot be read: {error}", kind="execution"
                ) from None
            times.append(one.ts)
        return {labels: _Samples(np.array(ts, np.int64), values) for labels, (ts, values) in sorted(found.items())}

    def floats(self, node: Selector) -> dict[Labels, Ints]:
        """Times of the float samples of the same series, staleness markers among them."""
        block = self.e.source.get(node.matchers)
        return {labels: block.series(i)[0] for i, labels in enumerate(block.labels)}

    def newest(self, node: Selector, grid: Grid) -> HistogramVector:
        out = HistogramVector()
        times = grid.reference(node.at, node.offset_ms)
        held = self.samples(node)
        floats = self.floats(node) if held else {}
        for labels, own in held.items():
            last = np.searchsorted(own.ts, times, "right") - 1
            other = floats.get(labels)
            cells = {}
            for step, (at, time) in enumerate(zip(last.tolist(), times.tolist(), strict=True)):
                one = own.values[at] if at >= 0 else None
                if one is None or own.ts[at] <= time - self.e.source.lookback_ms:
                    continue
                if (
                    other is not None
                    and (k := int(np.searchsorted(other, time, "right")))
                    and other[k - 1] > own.ts[at]
                ):
                    continue  # a float sample, or the end of the series, is newer
                cells[step] = one
            _add(out, labels, drop=False, cells=cells)
        return out

    def aggregated(self, node: Aggregation, grid: Grid) -> HistogramVector:
        inner = self.value(node.expr, grid)
        ids, groups = grouping(inner.labels, node.labels, not node.without)
        sums: list[dict[int, FloatHistogram]] = [{} for _ in groups]
        counts: list[dict[int, int]] = [{} for _ in groups]
        bad: set[tuple[int, int]] = set()
        for row, group in enumerate(ids.tolist()):
            self.e.check_time()
            for step, one in inner.cells[row].items():
                before = sums[group].get(step)
                counts[group][step] = counts[group].get(step, 0) + 1
                try:
                    sums[group][step] = one if before is None else before.plus(one)
                except Incompatible:
                    bad.add((group, step))
                    self.warn_of_mixture(inner.labels[row], node.expr.start)
        out = HistogramVector()
        drops = np.array(inner.drop, bool)
        for group, labels in enumerate(groups):
            cells = {step: one for step, one in sums[group].items() if (group, step) not in bad}
            if node.op == "avg":
                cells = {step: one.scaled(1 / counts[group][step]) for step, one in cells.items()}
            _add(out, labels, drop=bool(drops[ids == group].any()), cells=cells)
        return out

    def over_range(self, node: Call, grid: Grid) -> HistogramVector:
        selector = unwrap(node.args[0])
        assert isinstance(selector, Selector)
        assert selector.range_ms is not None
        ends = grid.reference(selector.at, selector.offset_ms)
        held = self.samples(selector)
        floats = self.floats(selector) if held else {}
        out = HistogramVector()
        for labels, own in held.items():
            live = [i for i, one in enumerate(own.values) if one is not None]
            ts, values = own.ts[live], [one for one in own.values if one is not None]
            series = NativeSeries.of(ts, values)
            mixed = self.windows_with(floats.get(labels), ends, selector.range_ms)
            lo, hi = bounds(np.array([0, len(ts)]), ts, ends, selector.range_ms)
            cells = {}
            for step, (a, b) in enumerate(zip(lo[0].tolist(), hi[0].tolist(), strict=True)):
                if a == b:
                    continue
                if mixed is not None and bool(mixed[step]) and node.function != "last_over_time":
                    self.note("encountered a mix of histograms and floats", labels, node.args[0].start)
                    continue
                try:
                    found = self.window(node, series, a, b, int(ends[step]), selector.range_ms, labels)
                except Incompatible:
                    self.warn_of_mixture(labels, node.args[0].start)
                    continue
                if found is not None:
                    cells[step] = found
            self.e.check_time()
            _add(out, labels, drop=node.function != "last_over_time", cells=cells)
        return out

    def windows_with(self, floats: Ints | None, ends: Ints, range_ms: int) -> Bools | None:
        """Windows that hold float samples of the same series."""
        if floats is None:
            return None
        lo, hi = bounds(np.array([0, len(floats)]), floats, ends, range_ms)
        return np.asarray(hi[0] > lo[0])

    def window(
        self, node: Call, own: NativeSeries, a: int, b: int, end_ms: int, range_ms: int, labels: Labels
    ) -> FloatHistogram | None:
        """The function over samples ``a`` to ``b - 1``; ``None`` where they are too few."""
        name, values = node.function, own.values
        if name == "last_over_time":
            return values[b - 1]
        if name in ("sum_over_time", "avg_over_time"):
            whole = total(values[a:b])
            return whole.scaled(1 / (b - a)) if name == "avg_over_time" else whole
        if b - a < 2:
            return None
        counter = name in ("rate", "increase", "irate")
        gauges = {values[i].hint is Hint.GAUGE for i in (range(a, b) if counter else (a, b - 1))}
        if counter and True in gauges:
            self.note("this native histogram metric is not a counter:", labels, node.args[0].start, "")
        if not counter and False in gauges:
            self.note("this native histogram metric is not a gauge:", labels, node.args[0].start, "")
        if name in ("irate", "idelta"):
            last, before = values[b - 1], values[b - 2]
            change = last.scaled(1.0) if counter and own.resets[b - 1] else last.plus(before, -1.0)
            return change.scaled(1000 / int(own.ts[b - 1] - own.ts[b - 2])) if counter else change
        return extrapolated(own, a, b, end_ms, range_ms, counter=counter, per_second=name == "rate")

    def warn_of_mixture(self, labels: Labels, start: int) -> None:
        self.note(
            "vector contains a mix of histograms with exponential and custom buckets schemas, or of custom buckets",
            labels, start,
        )  # fmt: skip

    def note(self, message: str, labels: Labels, start: int, of: str = " for metric name") -> None:
        name = label_value(labels, METRIC_NAME)
        self.e.notes.add("warning", f"{message}{of} {quote(name)}" if name else message, start)


def _add(out: HistogramVector, labels: Labels, *, drop: bool, cells: dict[int, FloatHistogram]) -> None:
    if cells:
        out.labels.append(labels)
        out.drop.append(drop)
        out.cells.append(cells)


NUMBERS: dict[str, Callable[[FloatHistogram], float]] = {
    "histogram_count": lambda one: one.count,
    "histogram_sum": lambda one: one.sum,
    "histogram_avg": lambda one: one.sum / one.count if one.count else math.nan,
    "histogram_stdvar": FloatHistogram.variance,
    "histogram_stddev": lambda one: math.sqrt(one.variance()),
}


def number(e: Evaluator, name: str, plan: Plan, grid: Grid) -> Frame:
    """``histogram_count`` and its like: what native histograms have; float samples give nothing."""
    e.vector(plan, grid)
    of = NUMBERS[name]
    return vector(e, plan, grid).numbers(grid.steps, lambda one, _: of(one))


def quantile(e: Evaluator, plan: Plan, q: Floats, grid: Grid) -> Frame:
    return vector(e, plan, grid).numbers(grid.steps, lambda one, step: one.quantile(float(q[step])))


def fraction(e: Evaluator, plan: Plan, lower: Floats, upper: Floats, grid: Grid) -> Frame:
    return vector(e, plan, grid).numbers(
        grid.steps, lambda one, step: one.fraction(float(lower[step]), float(upper[step]))
    )
