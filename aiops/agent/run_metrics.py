"""Runs metric, forecast and compare steps: figures at the window's end, the series of the chart, and a diagnosis
of emptiness that tells "nothing matched" from "does not exist", "late" and "down"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from aiops.agent import past
from aiops.agent.catalogue import Catalogue, resolve
from aiops.agent.expressions import alert_form
from aiops.agent.found import Asking, Found
from aiops.agent.validator import parse, uses
from aiops.core.errors import AiopsError, InvalidPlan, LimitExceeded, QueryError, TransientError
from aiops.core.evidence import Evidence, EvidenceState, Figure
from aiops.core.ports import MetricQuerier
from aiops.core.query import CompareStep, ForecastStep, MetricStep, Threshold
from aiops.core.series import METRIC_NAME, Labels, Matcher, MatchOp, SampleBlock
from aiops.promql.plan import Binary, Number, Selector

CHART_SERIES = 8
CHART_POINTS = 240
SHOWN_WHEN_NONE = 5
LATE_MS = 5 * 60_000
HISTORY_SHARE = 8
"""A forecast needs a history of at least this part of its horizon."""
DIAGNOSE_MS = 86_400_000
NEARER_S = (86_400.0, 6 * 3600.0, 3600.0)
"""Where there is no data as far back as a comparison asks, these are tried."""
AT_THE_END = "The figures are those at the window's end; the chart shows all of it."

_OPS = {
    "<": lambda v, t: v < t, "<=": lambda v, t: v <= t, ">": lambda v, t: v > t, ">=": lambda v, t: v >= t,
    "==": lambda v, t: v == t, "!=": lambda v, t: v != t,
}  # fmt: skip

Row = tuple[Labels, float]


@dataclass(frozen=True, slots=True)
class MetricRunner:
    """Asks one metric source. ``max_series`` bounds what is read out of a result."""

    querier: MetricQuerier
    max_series: int = 1000

    def metric(self, step: MetricStep, asking: Asking, catalogue: Catalogue) -> Found:
        start, end = step.window.resolve(asking.now_ms)
        if past.asks_for_course(step, start, end) and (found := self._over(step, start, end, asking)) is not None:
            return found
        limits = (AT_THE_END,) if step.window.end_ms is not None else ()
        try:
            rows, truncated = self._instant(step.promql, end, asking)
            if not rows:
                state, note, newest = self._diagnose(step.promql, asking, catalogue, end)
                return Found(step, (self._evidence(step, start, end, state, note=note, newest=newest),), 0)
            rows = _worst_first(rows, step.bad, step.threshold)
            hits = [r for r in rows if step.threshold is None or _OPS[step.threshold.op](r[1], step.threshold.value)]
            shown = (hits if hits else rows[:SHOWN_WHEN_NONE])[: step.limit]
            chart = self._chart(step.promql, start, end, [labels for labels, _ in shown], asking)
            newest = self._newest(step.promql, end, asking)
        except TransientError as error:
            down = self._evidence(step, start, end, EvidenceState.SOURCE_DOWN, note=str(error))
            return Found(step, (down,), 0)
        figures = [Figure(value, step.unit, labels) for labels, value in shown]
        figures.append(Figure(float(len(hits)), "1", name="matching series"))
        figures.append(Figure(float(len(rows)), "1", name="series looked at"))
        if step.threshold is not None:
            figures.append(Figure(step.threshold.value, step.unit, name="threshold"))
        late = newest is not None and end - newest > LATE_MS
        state = EvidenceState.OK if hits else EvidenceState.NO_MATCH
        note = ""
        if late:
            state, note = EvidenceState.SOURCE_LATE, "the newest sample is older than five minutes"
        return Found(
            step,
            (self._evidence(step, start, end, state, tuple(figures), chart, note, newest,
                            truncated or len(hits) > len(shown)),),
            len(hits),
            limits=limits,
        )  # fmt: skip

    def _over(self, step: MetricStep, start: int, end: int, asking: Asking) -> Found | None:
        """As :meth:`metric`, of the whole window; ``None`` where it holds nothing or is not given."""
        spacing = max(15_000, -(-(end - start) // CHART_POINTS // 1000) * 1000)
        first = end - (end - start) // spacing * spacing
        try:
            block = self.querier.range(step.promql, first, end, spacing, asking.principal).block
        except (QueryError, LimitExceeded, TransientError):
            return None
        found = {c.labels: c for c in past.courses(block, self.max_series)}
        if not found:
            return None
        rows = _worst_first([(c.labels, c.decisive(step)) for c in found.values()], step.bad, step.threshold)
        hits = [r for r in rows if step.threshold is None or _OPS[step.threshold.op](r[1], step.threshold.value)]
        shown = (hits if hits else rows[:SHOWN_WHEN_NONE])[: step.limit]
        figures = [figure for labels, _ in shown for figure in found[labels].figures(step)]
        figures.append(Figure(float(len(hits)), "1", name="matching series"))
        figures.append(Figure(float(len(rows)), "1", name="series looked at"))
        if step.threshold is not None:
            figures.append(Figure(step.threshold.value, step.unit, name="threshold"))
        evidence = self._evidence(
            step, start, end, EvidenceState.OK if hits else EvidenceState.NO_MATCH, tuple(figures),
            past.drawn(block, [labels for labels, _ in shown[:CHART_SERIES]]), newest=int(block.ts.max()),
            truncated=len(block) > self.max_series or len(hits) > len(shown),
        )  # fmt: skip
        return Found(step, (evidence,), len(hits))

    def forecast(self, step: ForecastStep, asking: Asking, catalogue: Catalogue) -> Found:
        """A line through the window; a comparison in the text (``< 0``) says which series run out."""
        start, end = step.window.resolve(asking.now_ms)
        bare, condition = split_condition(step.promql)
        text = MetricStep(
            title=step.title, promql=bare, shape="forecast", unit=step.unit, bad="low" if condition else "",
            threshold=condition, window=step.window, limit=step.limit,
        )  # fmt: skip
        found = self.metric(text, asking, catalogue)
        evidence = found.evidence[0]
        figures = (
            *(_not_below_nothing(f, condition) for f in evidence.figures),
            Figure(step.horizon_s, "s", name="horizon"),
        )
        shown = {f.labels for f in evidence.figures if not f.name}
        young = self._young(bare, int(step.horizon_s * 1000) // HISTORY_SHARE, shown, end, asking)
        changed = Evidence(
            "", "forecast", step.title, self.querier.name, step.promql, start, end, evidence.state,
            figures if evidence.figures else (), (), evidence.series, step.unit, evidence.newest_ms,
            evidence.truncated, evidence.note,
        )  # fmt: skip
        names = ", ".join(sorted(_said(y) for y in young))[:200]
        limits = (f"A line through little history, a guess more than a forecast: {names}.",) if young else ()
        matched = found.matched if condition else None
        return Found(step, (changed,), matched, limits=limits, doubtful=bool(young))

    def _young(self, text: str, need_ms: int, shown: set[Labels], end: int, asking: Asking) -> set[Labels]:
        """Those of the shown series that did not exist yet ``need_ms`` ago."""
        selector = next((use.selector for use in uses(parse(text))), None)
        if selector is None or not selector.name or not shown:
            return set()
        try:
            rows, _ = self._instant(f"{_bare(selector)}", end - need_ms, asking)
        except (TransientError, LimitExceeded, InvalidPlan):
            return set()
        old = {frozenset(labels) for labels, _ in rows}
        return {labels for labels in shown if not any(set(labels) <= known for known in old)}

    def compare(self, step: CompareStep, asking: Asking, catalogue: Catalogue) -> Found:
        """Values at the window's end beside those ``back_s`` earlier, largest relative change first."""
        start, end = step.window.resolve(asking.now_ms)
        try:
            now, cut = self._instant(step.promql, end, asking)
            back, before = self._earlier(step, end, asking)
        except TransientError as error:
            down = Evidence("", "compare", step.title, self.querier.name, step.promql, start, end,
                            EvidenceState.SOURCE_DOWN, note=str(error))  # fmt: skip
            return Found(step, (down,))
        earlier = dict(before)
        pairs = [(labels, value, earlier[labels]) for labels, value in now if labels in earlier]
        pairs.sort(key=lambda p: -abs(_change(p[1], p[2])))
        figures: list[Figure] = []
        for labels, value, old in pairs[: step.limit]:
            figures += [Figure(value, step.unit, labels, "now"), Figure(old, step.unit, labels, "before")]
        if figures:
            figures.append(Figure(back, "s", name="back"))
        new = len(now) - len(pairs) if pairs else 0
        limits = (f"Left out, since they have no data that far back: {new} series.",) if new else ()
        if back != step.back_s and pairs:
            limits = (*limits, "There is no data that far back, so the oldest that there is was taken.")
        if now and pairs:
            state, note = EvidenceState.OK, ""
        elif now:
            state, note = EvidenceState.NO_MATCH, "there is no data that far back"
        else:
            state, note, _ = self._diagnose(step.promql, asking, catalogue, end)
        chart = self._chart(step.promql, start, end, [p[0] for p in pairs[:CHART_SERIES]], asking) if pairs else None
        return Found(
            step,
            (Evidence("", "compare", step.title, self.querier.name, step.promql, start, end, state, tuple(figures),
                      series=chart, unit=step.unit, newest_ms=self._newest(step.promql, end, asking), truncated=cut,
                      note=note),),
            limits=limits,
        )  # fmt: skip

    # ------------------------------------------------------------ asking

    def _earlier(self, step: CompareStep, end: int, asking: Asking) -> tuple[float, list[Row]]:
        """How far back in seconds, and the rows of then: as far as asked, or as far as there is data."""
        for back in (step.back_s, *(b for b in NEARER_S if b < step.back_s)):
            rows, _ = self._instant(step.promql, end - int(back * 1000), asking)
            if rows:
                return back, rows
        return step.back_s, []

    def _instant(self, text: str, at_ms: int, asking: Asking) -> tuple[list[Row], bool]:
        try:
            block = self.querier.instant(text, at_ms, asking.principal).block
        except QueryError as error:
            raise InvalidPlan(f"The query was refused: {error.message}", hint=error.hint) from error
        rows = []
        for i, labels in enumerate(block.labels[: self.max_series]):
            _, values = block.series(i)
            if len(values) and not math.isnan(values[-1]):
                rows.append((_without_name(labels), float(values[-1])))
        return rows, len(block) > self.max_series

    def _chart(self, text: str, start: int, end: int, wanted: list[Labels], asking: Asking) -> SampleBlock | None:
        """The shown series over the window; ``None`` where the source will not give a range."""
        step = max(15_000, -(-(end - start) // CHART_POINTS // 1000) * 1000)
        try:
            block = self.querier.range(text, end - (end - start) // step * step, end, step, asking.principal).block
        except (QueryError, LimitExceeded, TransientError):
            return None
        keep = {labels: i for i, labels in reversed(list(enumerate(map(_without_name, block.labels))))}
        chosen = [(labels, keep[labels]) for labels in wanted[:CHART_SERIES] if labels in keep]
        return SampleBlock.build((labels, *block.series(i)) for labels, i in chosen) if chosen else None

    def _newest(self, text: str, end: int, asking: Asking) -> int | None:
        """Time of the newest sample behind an expression, if its first selector shows one."""
        found = next((use.selector for use in uses(parse(text))), None)
        if found is None or not found.name:
            return None
        try:
            block = self.querier.instant(f"max(timestamp({_bare(found)}))", end, asking.principal).block
        except AiopsError:
            return None
        return int(block.values[-1] * 1000) if len(block.values) and np.isfinite(block.values[-1]) else None

    def _diagnose(
        self, text: str, asking: Asking, catalogue: Catalogue, end: int
    ) -> tuple[EvidenceState, str, int | None]:
        """Why a query gave nothing: state, note, time of the newest sample of the past day if any."""
        metrics = catalogue.metrics()
        found = [use.selector for use in uses(parse(text))]
        for selector in found:
            if selector.name and resolve(metrics, selector.name) is None:
                return EvidenceState.DOES_NOT_EXIST, f"there is no metric {selector.name} here", None
        for selector in found:
            newest = self._last_seen(selector, end, asking)
            if newest is None:
                matchers = [[Matcher(METRIC_NAME, MatchOp.EQUAL, selector.name)]]
                try:
                    any_series = self.querier.series(matchers, end - DIAGNOSE_MS, end, asking.principal, 1)
                except AiopsError:
                    any_series = []
                note = f"no series of {selector.name} has these labels"
                return EvidenceState.NO_MATCH, note if any_series else f"{selector.name} has no samples here", None
            if end - newest > LATE_MS:
                return EvidenceState.SOURCE_LATE, f"{selector.name} stopped coming in", newest
        return EvidenceState.NO_MATCH, "the series exist, and none meets the query's own condition", None

    def _last_seen(self, selector: Selector, end: int, asking: Asking) -> int | None:
        try:
            block = self.querier.range(f"max(timestamp({_bare(selector)}))", end - DIAGNOSE_MS, end, 300_000,
                                       asking.principal).block  # fmt: skip
        except AiopsError:
            return None
        seen = block.values[np.isfinite(block.values)]
        return int(seen.max() * 1000) if len(seen) else None

    def _evidence(
        self,
        step: MetricStep,
        start: int,
        end: int,
        state: EvidenceState,
        figures: tuple[Figure, ...] = (),
        chart: SampleBlock | None = None,
        note: str = "",
        newest: int | None = None,
        truncated: bool = False,
    ) -> Evidence:
        return Evidence("", "metric", step.title, self.querier.name, alert_form(step), start, end, state, figures,
                        series=chart, unit=step.unit, newest_ms=newest, truncated=truncated, note=note)  # fmt: skip


def _not_below_nothing(figure: Figure, condition: Threshold | None) -> Figure:
    """A line below zero says that nothing is left, not that less than nothing is."""
    if condition is None or condition.value != 0 or figure.name or figure.value >= 0:
        return figure
    return replace(figure, value=0.0)


def _said(labels: Labels) -> str:
    table = dict(labels)
    return next((table[n] for n in ("instance", "service_name", "service", "pod") if n in table), "a series")


def _bare(selector: Selector) -> Selector:
    """The series themselves: no range, offset or ``@``."""
    return Selector(selector.matchers)


def _without_name(labels: Labels) -> Labels:
    return tuple(p for p in labels if p[0] != METRIC_NAME)


def _worst_first(rows: list[Row], bad: str, threshold: Threshold | None) -> list[Row]:
    """Lowest first where low is bad, highest first elsewhere; infinite values keep their place in the order."""
    low = bad == "low" if threshold is None or threshold.op in ("==", "!=") else threshold.op in ("<", "<=")
    return sorted(rows, key=lambda r: (r[1] if low else -r[1], r[0]))


def _change(now: float, before: float) -> float:
    return (now - before) / max(abs(before), 1e-12)


def split_condition(text: str) -> tuple[str, Threshold | None]:
    """An expression and the comparison with a number at its end, if it has one."""
    tree = parse(text)
    if isinstance(tree, Binary) and isinstance(tree.right, Number) and tree.op in _OPS and not tree.returns_bool:
        head, _, _ = text.rpartition(tree.op)
        return head.strip(), Threshold(op=tree.op, value=tree.right.value)
    return text, None


CONDITIONS: Mapping[str, str] = {
    "<": "below", "<=": "at or below", ">": "above", ">=": "at or above", "==": "at", "!=": "other than",
}  # fmt: skip
