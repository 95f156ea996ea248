"""Functions whose arguments need evaluating first, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from aiops.core.errors import QueryError
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp
from aiops.promql import functions, histogram, native_vectors
from aiops.promql.context import Grid
from aiops.promql.frame import Bools, Frame, Ints, Scalars, Value, label_value, set_labels
from aiops.promql.matching import compile_regex
from aiops.promql.plan import Plan, Selector, unwrap

if TYPE_CHECKING:
    from aiops.promql.evaluate import Evaluator

INFO_METRIC = "target_info"
IDENTIFYING = ("instance", "job")


def absent_labels(node: Plan) -> Labels:
    """Labels that ``absent`` can tell from the selector's ``=`` matchers."""
    node = unwrap(node)
    if not isinstance(node, Selector):
        return ()
    found: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in node.matchers:
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in seen:
            found[matcher.name] = matcher.value
            seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return set_labels((), found.items())


def _absent(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    frame = e.vector(args[0], grid)
    return Frame.single(absent_labels(args[0]), np.ones(grid.steps), np.asarray(~frame.ok.any(axis=0)))


def _absent_over_time(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    windows = e.windows(args[0], grid)
    there = np.zeros(grid.steps, bool)
    zeros = np.zeros(grid.steps)
    for _, _, ok in e.range_blocks("present", windows, zeros, zeros):
        there |= ok.any(axis=0)
    return Frame.single(absent_labels(args[0]), np.ones(grid.steps), ~there)


def _scalar_of(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    frame = e.vector(args[0], grid)
    one = frame.ok.sum(axis=0) == 1
    values = np.full(grid.steps, np.nan)
    if len(frame):
        values[one] = frame.values[np.argmax(frame.ok, axis=0), np.arange(grid.steps)][one]
    return Scalars(values)


def _timestamp(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    inner = unwrap(args[0])
    if isinstance(inner, Selector):
        frame, index = e.instant(inner, grid)
        if not len(frame):
            return frame
        return frame.with_values(e.source.get(inner.matchers).ts[index] / 1000.0)
    frame = e.vector(args[0], grid)
    return frame.with_values(np.broadcast_to(grid.times / 1000.0, frame.values.shape).copy())


def _round(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    frame = e.vector(args[0], grid)
    nearest = e.scalar(args[1], grid) if len(args) > 1 else np.ones(grid.steps)
    return frame.with_values(functions.round_to(frame.values, nearest))


def _clamp(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    return functions.clamp(e.vector(args[0], grid), e.scalar(args[1], grid), e.scalar(args[2], grid))


def _sort(descending: bool) -> Callable[[Evaluator, tuple[Plan, ...], Grid], Value]:
    def run(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
        frame = e.vector(args[0], grid)
        return functions.sort_values(frame, descending=descending) if grid.steps == 1 else frame

    return run


def _sort_by_label(descending: bool) -> Callable[[Evaluator, tuple[Plan, ...], Grid], Value]:
    def run(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
        frame = e.vector(args[0], grid)
        names = [e.text(a, grid) for a in args[1:]]
        return functions.sort_by_label(frame, names, descending=descending) if grid.steps == 1 else frame

    return run


def _label_replace(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    dst, replacement, src, pattern = (e.text(a, grid) for a in args[1:])
    return functions.label_replace(e.vector(args[0], grid), dst, replacement, src, pattern)


def _label_join(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    dst, separator, *sources = (e.text(a, grid) for a in args[1:])
    return functions.label_join(e.vector(args[0], grid), dst, separator, sources)


def _histogram_quantiles(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    frame, label = e.vector(args[0], grid), e.text(args[1], grid)
    parts: list[Frame] = []
    for arg in args[2:]:
        q = e.scalar(arg, grid)
        one = histogram.quantile(frame, q, grid.times, histogram.Noted(e.notes, arg.start, args[0].start))
        one = _beside(one, native_vectors.quantile(e, args[0], q, grid))
        text = histogram.open_metrics(float(q[0]))
        parts.append(Frame([set_labels(x, [(label, text)]) for x in one.labels], one.values, one.ok, one.drop))
    return Frame(
        [x for part in parts for x in part.labels],
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.ok for p in parts]),
        np.concatenate([p.drop for p in parts]),
    ).merged()


def info_selector(args: tuple[Plan, ...]) -> Selector:
    """What ``info`` joins with: its second argument, of ``target_info`` where that names no metric.

    Where names are only ruled out, all metrics that end in ``_info`` are meant but those.
    """
    given = unwrap(args[1]) if len(args) > 1 else None
    matchers = given.matchers if isinstance(given, Selector) else ()
    names = [m for m in matchers if m.name == METRIC_NAME]
    if not names:
        matchers = (Matcher(METRIC_NAME, MatchOp.EQUAL, INFO_METRIC), *matchers)
    elif all(m.op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX) for m in names):
        matchers = (Matcher(METRIC_NAME, MatchOp.REGEX, ".+_info"), *matchers)
    return Selector(matchers)


def _info(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    base = e.vector(args[0], grid)
    selector = info_selector(args)
    found, index = e.instant(selector, grid)
    times = e.source.get(selector.matchers).ts[index] if len(found) else index
    wanted = {m.name for m in selector.matchers} - {METRIC_NAME}
    needed = any(_rejects_empty(m) for m in selector.matchers if m.name != METRIC_NAME)
    by_name: dict[str, list[int]] = {}
    for row, labels in enumerate(found.labels):
        by_name.setdefault(label_value(labels, METRIC_NAME), []).append(row)
    for name, rows in by_name.items():
        own = np.array(rows, np.int64)
        base = _with_info(base, found.take(own), times[own], name, wanted, needed)
    if not by_name and needed:
        return Frame.empty(grid.steps)
    return base


def _with_info(base: Frame, info: Frame, times: Ints, name: str, wanted: set[str], needed: bool) -> Frame:
    """The base series with the data labels of one info metric; ``needed``: without a match they go.

    Of several info series of one target the one with the newest sample counts; ``times`` are those of ``info``.
    """
    by_id: dict[Labels, list[int]] = {}
    for row, theirs in enumerate(info.labels):
        by_id.setdefault(_identity(theirs), []).append(row)
    chosen = {identity: _newest(info, times, rows, name) for identity, rows in by_id.items()}
    labels: list[Labels] = []
    rows: list[int] = []
    ok = []
    for row, own in enumerate(base.labels):
        alone = base.ok[row].copy()
        if label_value(own, METRIC_NAME) != name:
            for other, counts in chosen.get(_identity(own), ()):
                extra = [
                    (key, value)
                    for key, value in info.labels[other]
                    if key != METRIC_NAME and key not in IDENTIFYING and (not wanted or key in wanted)
                    and not label_value(own, key)
                ]  # fmt: skip
                labels.append(set_labels(own, extra))
                rows.append(row)
                ok.append(base.ok[row] & counts)
                alone &= ~counts
            if needed:
                continue
        labels.append(own)
        rows.append(row)
        ok.append(alone)
    if not rows:
        return Frame.empty(base.ok.shape[1])
    return Frame(labels, base.values[rows], np.array(ok), base.drop[rows]).compact().merged()


def _newest(info: Frame, times: Ints, rows: list[int], name: str) -> list[tuple[int, Bools]]:
    """At which steps each of some info series is the newest one."""
    stamps = np.where(info.ok[rows], times[rows], np.iinfo(np.int64).min)
    best = stamps.max(axis=0)
    first = (stamps == best) & info.ok[rows]
    if bool((first.sum(axis=0) > 1).any()):
        raise QueryError(f"found duplicate series for info metric {name}", kind="execution")
    return list(zip(rows, first, strict=True))


def _identity(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] in IDENTIFYING)


def _rejects_empty(matcher: Matcher) -> bool:
    match matcher.op:
        case MatchOp.EQUAL:
            return matcher.value != ""
        case MatchOp.NOT_EQUAL:
            return matcher.value == ""
        case MatchOp.REGEX:
            return compile_regex(matcher.value).fullmatch("") is None
        case _:
            return compile_regex(matcher.value).fullmatch("") is not None


def _beside(classic: Frame, native: Frame) -> Frame:
    if not len(native):
        return classic
    return Frame(
        classic.labels + native.labels,
        np.concatenate([classic.values, native.values]),
        np.concatenate([classic.ok, native.ok]),
        np.concatenate([classic.drop, native.drop]),
    ).merged()


def _histogram_quantile(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    q = e.scalar(args[0], grid)
    noted = histogram.Noted(e.notes, args[0].start, args[1].start)
    classic = histogram.quantile(e.vector(args[1], grid), q, grid.times, noted)
    return _beside(classic, native_vectors.quantile(e, args[1], q, grid))


def _histogram_fraction(e: Evaluator, args: tuple[Plan, ...], grid: Grid) -> Value:
    low, high = e.scalar(args[0], grid), e.scalar(args[1], grid)
    classic = histogram.fraction(
        e.vector(args[2], grid), low, high, histogram.Noted(e.notes, args[0].start, args[2].start)
    )
    return _beside(classic, native_vectors.fraction(e, args[2], low, high, grid))


def _of_native(name: str) -> Callable[[Evaluator, tuple[Plan, ...], Grid], Value]:
    return lambda e, args, grid: native_vectors.number(e, name, args[0], grid)


def _extreme_of(pick: Callable[..., Any]) -> Callable[[Evaluator, tuple[Plan, ...], Grid], Value]:
    return lambda e, a, g: Scalars(pick(e.scalar(a[0], g), e.scalar(a[1], g)))


HANDLERS: dict[str, Callable[[Evaluator, tuple[Plan, ...], Grid], Value]] = {
    "absent": _absent,
    "absent_over_time": _absent_over_time,
    "scalar": _scalar_of,
    "vector": lambda e, a, g: Frame.single((), e.scalar(a[0], g)),
    "time": lambda e, a, g: Scalars(g.times / 1000.0),  # noqa: ARG005
    "pi": lambda e, a, g: Scalars(np.full(g.steps, np.pi)),  # noqa: ARG005
    "timestamp": _timestamp,
    "info": _info,
    "round": _round,
    "clamp": _clamp,
    "clamp_min": lambda e, a, g: functions.clamp(e.vector(a[0], g), e.scalar(a[1], g), None),
    "clamp_max": lambda e, a, g: functions.clamp(e.vector(a[0], g), None, e.scalar(a[1], g)),
    "sort": _sort(descending=False),
    "sort_desc": _sort(descending=True),
    "sort_by_label": _sort_by_label(descending=False),
    "sort_by_label_desc": _sort_by_label(descending=True),
    "label_replace": _label_replace,
    "label_join": _label_join,
    "histogram_quantile": _histogram_quantile,
    "histogram_quantiles": _histogram_quantiles,
    "histogram_fraction": _histogram_fraction,
    **{name: _of_native(name) for name in native_vectors.NUMBERS},
    "start": lambda e, a, g: Scalars(np.full(g.steps, g.start_ms / 1000.0)),  # noqa: ARG005
    "end": lambda e, a, g: Scalars(np.full(g.steps, g.end_ms / 1000.0)),  # noqa: ARG005
    "step": lambda e, a, g: Scalars(np.full(g.steps, g.step_ms / 1000.0)),  # noqa: ARG005
    "range": lambda e, a, g: Scalars(np.full(g.steps, (g.end_ms - g.start_ms) / 1000.0)),  # noqa: ARG005
    "max_of": _extreme_of(np.maximum),
    "min_of": _extreme_of(np.minimum),
}
