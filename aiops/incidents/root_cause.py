"""Evidence of an incident gathered from live telemetry, ranked, and put in words.

Asked are: the watched queries from an hour before the onset, the call graph and wire times of spans, the log
patterns before and after, and the changes near the onset. A source that fails is left out, not guessed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aiops.core.errors import AiopsError
from aiops.core.incident import Alert, CauseCandidate, Incident, SignalKind
from aiops.core.ports import MetricQuerier, SignalReader
from aiops.core.principal import SYSTEM, Principal
from aiops.core.series import METRIC_NAME, Labels, QueryResult, ResultType
from aiops.core.signals import ChangeEvent, LogPattern, ServiceGraph, label
from aiops.incidents.call_paths import CallPaths, callers_of
from aiops.incidents.correlation import is_simulated, service_of
from aiops.incidents.diagnosis import Diagnosis
from aiops.incidents.metric_kinds import Direction, MetricKind
from aiops.incidents.ranking import Case, ChangeRow, LogRow, MetricRow, Ranked, Ranking, SpanRow, rank
from aiops.incidents.watch import WatchEntry
from aiops.incidents.wording import against_normal, metric_words, quantity
from aiops.settings import IncidentSettings

__all__ = ["RootCauseAnalyser", "rank"]

log = logging.getLogger(__name__)

HISTORY_MS = 3_600_000
POINTS = 400
"""Rows of history and window at most; a longer one is asked at a coarser step."""
GRAPH_MS = 1_800_000
LATE_ALERT_MS = 180_000
"""A rule alert starts after its ``for``; the fault is looked for this much earlier."""
SPAN_INTERVALS, SPAN_INTERVAL_MS = 5, 240_000
PATTERNS = 300
FEW_CALLS = 20
"""With fewer calls due in an interval, their absence says nothing."""
CANDIDATES = 5
_ERROR_WORDS = ("error", "exception", "fail", "timeout", "refused", "panic", "fatal", "killed")
_KINDS = {"latency": MetricKind.LATENCY, "errors": MetricKind.ERRORS, "traffic": MetricKind.TRAFFIC,
          "saturation": MetricKind.SATURATION}  # fmt: skip
T = TypeVar("T")


class RootCauseAnalyser:
    """Implements :class:`~aiops.incidents.diagnosis.Analyser` over our store or a remote Prometheus.

    Args:
        querier: where metrics are asked.
        signals: logs, spans and changes; ``None`` where there are none.
        watch: what is asked, the same entries that detection watches.
    """

    def __init__(
        self,
        querier: MetricQuerier,
        signals: SignalReader | None,
        watch: Sequence[WatchEntry],
        settings: IncidentSettings | None = None,
        principal: Principal = SYSTEM,
    ) -> None:
        self._querier = querier
        self._signals = signals
        self._watch = tuple(watch)
        self._clear_share = (settings or IncidentSettings()).clear_cause_share
        self._principal = principal

    def graph(self, now_ms: int) -> ServiceGraph:
        """Who called whom in the last half hour; empty without spans."""
        if self._signals is None:
            return ServiceGraph()
        return self._signals.service_graph(now_ms - GRAPH_MS, now_ms + 1, self._principal)

    def analyse(self, incident: Incident, now_ms: int) -> Diagnosis:
        """Ranked causes with evidence. A source that cannot be asked is left out and logged."""
        onset_ms = _onset(incident, now_ms)
        graph = self._ask("the call graph", lambda: self.graph(now_ms), ServiceGraph())
        rows, times = self._metrics(incident, onset_ms, now_ms)
        symptom, kind = _symptom(incident, graph, self._watch)
        spans, span_times = self._spans(onset_ms, now_ms)
        case = Case(
            timestamps=times,
            onset=max(0, min(int(np.searchsorted(times, onset_ms, side="left")), len(times) - 1)),
            metrics=rows,
            edges=graph.edges,
            symptom=symptom,
            symptom_kind=kind,
            spans=spans,
            span_times=span_times,
            logs=self._logs(onset_ms, now_ms),
            changes=self._changes(onset_ms, now_ms),
            onset_ms=onset_ms,
            felt=True,
        )
        ranking = rank(case, self._clear_share)
        candidates = tuple(_candidate(case, ranking, found, onset_ms) for found in ranking.ranked[:CANDIDATES])
        affected = callers_of(candidates[0].service, graph.edges) if ranking.clear and candidates else ()
        return Diagnosis(candidates, ranking.clear, affected)

    # ---------------------------------------------------------------- evidence

    def _metrics(self, incident: Incident, onset_ms: int, now_ms: int) -> tuple[list[MetricRow], NDArray[np.int64]]:
        """The watched series of the incident's world on one grid."""
        if not self._watch:
            return [], np.empty(0, np.int64)
        step = min(e.step_ms for e in self._watch)
        start = onset_ms - HISTORY_MS
        step *= max(1, -(-(now_ms - start) // (step * POINTS)))
        last = now_ms // step * step
        times = np.arange(start // step * step, last + 1, step, dtype=np.int64)
        rows: list[MetricRow] = []
        for entry in self._watch:
            result = self._ask(entry.query, partial(self._range, entry.query, times), None)
            if result is None or result.type is not ResultType.MATRIX:
                continue
            for i, labels in enumerate(result.block.labels):
                service = _owner(labels)
                if not service or is_simulated(labels) != incident.simulated:
                    continue
                ts, observed = result.block.series(i)
                values = np.full(len(times), np.nan)
                at = (ts - times[0]) // step
                fits = (at >= 0) & (at < len(times))
                values[at[fits]] = observed[fits]
                rows.append(
                    MetricRow(
                        service,
                        _name(entry, labels),
                        np.where(np.isfinite(values), values, np.nan),
                        _KINDS.get(entry.kind, MetricKind.OTHER),
                        Direction(entry.direction),
                        entry.unit,
                        entry.query,
                    )
                )
        return rows, times

    def _spans(self, onset_ms: int, now_ms: int) -> tuple[list[SpanRow], NDArray[np.int64]]:
        """Calls and wire time of each pair in a few intervals before the onset and two since."""
        starts = [onset_ms - 30_000 - SPAN_INTERVAL_MS * k for k in range(SPAN_INTERVALS, 0, -1)]
        ends = [s + SPAN_INTERVAL_MS for s in starts]
        middle = (onset_ms + now_ms) // 2
        cuts = [(onset_ms, now_ms)] if now_ms - onset_ms < 20_000 else [(onset_ms, middle), (middle, now_ms)]
        windows = [*zip(starts, ends, strict=True), *cuts]
        wire: dict[tuple[str, str], NDArray[np.float64]] = {}
        count: dict[tuple[str, str], NDArray[np.float64]] = {}
        for k, (start, end) in enumerate(windows):
            seen = self._ask("spans", partial(self._graph, start, end), ServiceGraph())
            for edge in seen.stats:
                pair = edge.caller, edge.callee
                wire.setdefault(pair, np.full(len(windows), np.nan))[k] = edge.wire_p50_ms
                count.setdefault(pair, np.zeros(len(windows)))[k] = edge.count * 60_000.0 / max(end - start, 1)
        for pair, seen_count in count.items():
            usual = float(np.median(seen_count[:SPAN_INTERVALS]))
            for k, (start, end) in enumerate(windows):
                if usual * (end - start) / 60_000.0 < FEW_CALLS:
                    count[pair][k] = np.nan
        nothing = np.full(len(windows), np.nan)
        rows = [SpanRow(b, "", a, nothing, wire[a, b], count[a, b]) for a, b in sorted(wire)]
        return rows, np.array([s for s, _ in windows], np.int64)

    def _range(self, query: str, times: NDArray[np.int64]) -> QueryResult | None:
        step = int(times[1] - times[0]) if len(times) > 1 else 1
        return self._querier.range(query, int(times[0]), int(times[-1]), step, self._principal)

    def _graph(self, start_ms: int, end_ms: int) -> ServiceGraph:
        if self._signals is None:
            return ServiceGraph()
        return self._signals.service_graph(start_ms, end_ms, self._principal)

    def _logs(self, onset_ms: int, now_ms: int) -> list[LogRow]:
        if self._signals is None:
            return []
        reader, start = self._signals, onset_ms - GRAPH_MS
        nothing: list[LogPattern] = []
        old = self._ask("logs", lambda: reader.log_patterns(start, onset_ms, self._principal, limit=PATTERNS), nothing)
        new = self._ask(
            "logs", lambda: reader.log_patterns(onset_ms, now_ms + 1, self._principal, limit=PATTERNS), nothing
        )
        if not old:
            return []  # nothing to compare with: every line would look new
        past, since = GRAPH_MS / 60_000.0, max((now_ms - onset_ms) / 60_000.0, 0.25)
        before = {(p.service, p.pattern.raw): p for p in old}
        after = {(p.service, p.pattern.raw): p for p in new}
        rows = []
        for key in sorted(before.keys() | after.keys()):
            a, b = before.get(key), after.get(key)
            shown = b or a
            if shown is None:
                continue
            text = shown.pattern.display(200)
            steady = a is not None and a.count >= past and a.last_ms - a.first_ms >= 0.8 * GRAPH_MS
            is_error = shown.severity_number >= 17 or any(w in text.lower() for w in _ERROR_WORDS)
            rows.append(
                LogRow(
                    key[0],
                    text,
                    before=a.count / past if a else 0.0,
                    after=b.count / since if b else 0.0,
                    is_error=is_error,
                    # A vanished line is only told from a rare one when enough of them are due.
                    steady=steady and a is not None and since >= 1.0 and a.count / past * since >= 10,
                    count=b.count if b else 0,
                )
            )
        return rows

    def _changes(self, onset_ms: int, now_ms: int) -> list[ChangeRow]:
        if self._signals is None:
            return []
        reader = self._signals
        nothing: list[ChangeEvent] = []
        found = self._ask("changes", lambda: reader.changes(onset_ms - GRAPH_MS, now_ms + 1, self._principal), nothing)
        return [ChangeRow(c.service, f"{c.kind}: {c.title.display(120)}", c.time_ms) for c in found]

    def _ask(self, what: str, ask: Callable[[], T], otherwise: T) -> T:
        try:
            return ask()
        except AiopsError as error:
            log.warning("root cause goes without %s: %s", what, error)
            return otherwise


def _onset(incident: Incident, now_ms: int) -> int:
    """When the fault began as far as the signals tell: the earliest start that belongs to this opening."""
    reopened = max((e.time_ms for e in incident.timeline if e.event in ("opened", "reopened")), default=0)
    starts = [_began(s.alert) for s in incident.signals if s.alert.firing] or [incident.opened_ms]
    return int(min(max(min(starts), reopened - 1_800_000), now_ms))


def _began(alert: Alert) -> int:
    return alert.starts_ms - (0 if alert.kind is SignalKind.ANOMALY else LATE_ALERT_MS)


def _symptom(
    incident: Incident, graph: ServiceGraph, watch: Sequence[WatchEntry]
) -> tuple[tuple[str, str], MetricKind | None]:
    """What is seen broken: latency or errors before other kinds, and of those the service nearest the users."""
    paths = CallPaths.of(graph.edges)
    fires = [s.alert for s in incident.signals if s.alert.firing] or [s.alert for s in incident.signals]
    flows = [a for a in fires if a.anomaly is not None and a.anomaly.kind in ("latency", "errors")] or fires
    services = {service_of(a) or a.service for a in flows}

    def below(alert: Alert) -> int:
        mine = service_of(alert) or alert.service
        return sum(1 for other in services if (other, mine) in paths.hops)

    lead = min(flows, key=lambda a: (below(a), a.starts_ms, a.fingerprint))
    service = service_of(lead) or lead.service
    if lead.anomaly is None:
        return (service, ""), None
    name = next((_name(e, lead.anomaly.series) for e in watch if e.metric == lead.anomaly.metric), "")
    return (service, name), _KINDS.get(lead.anomaly.kind)


def _owner(labels: Labels) -> str:
    """As signals name it: the service, else the host."""
    for name in ("service", "service_name", "app", "job", "instance", "host"):
        if found := label(labels, name):
            return found
    return ""


def _name(entry: WatchEntry, labels: Labels) -> str:
    """The metric, told apart where a service has several series of it."""
    owner = _owner(labels)
    rest = [v for k, v in labels if v != owner and k not in (METRIC_NAME, "simulated", "job", "instance", "namespace")]
    return metric_words(entry.metric, entry.query, entry.kind) + (f" ({', '.join(rest)})" if rest else "")


def _candidate(case: Case, ranking: Ranking, found: Ranked, onset_ms: int) -> CauseCandidate:
    reasons: list[str] = []
    first: int | None = None
    lead: tuple[MetricRow, float, float] | None = None
    for index in found.metrics[:3]:
        row = case.metrics[index]
        before, after, began = _figures(case, ranking.onset, row)
        if not (np.isfinite(before) and np.isfinite(after)):
            continue
        lead = lead or (row, before, after)
        first = min(x for x in (first, began) if x is not None) if began is not None or first is not None else None
        words = f"{row.name} {quantity(before, row.unit)} → {quantity(after, row.unit)}"
        normal = against_normal(after, before)
        reasons.append(words + (f" ({normal})" if normal else ""))
    if found.span:
        reasons.append(found.span)
    if found.log is not None:
        seen = found.log
        usual = f"log line {seen.count} times, usually {seen.before:.2g} a minute"
        how = f"new log line, {seen.count} times" if seen.before == 0 else usual
        reasons.append(f"{how if seen.after else 'log line no longer written'}: «{seen.template}»")
    change = ""
    if found.change is not None:
        minutes = (onset_ms - found.change.time_ms) / 60_000.0
        when = f"{minutes:.0f} min before the onset" if minutes >= 1 else "at the onset"
        change = f"{found.change.text}, {when}"
        reasons.append(change)
    shown = lead[0] if lead else None
    return CauseCandidate(
        service=found.service,
        share=found.share,
        metric=shown.name if shown else "",
        before=lead[1] if lead else float("nan"),
        after=lead[2] if lead else float("nan"),
        first_deviation_ms=first,
        path=found.path,
        reasons=tuple(reasons),
        query=shown.query if shown else "",
        change=change,
    )


def _figures(case: Case, onset: int, row: MetricRow) -> tuple[float, float, int | None]:
    """(median before, the value farthest from it since, time of the first value outside the history's tails)."""
    past, since = row.values[:onset], row.values[onset:]
    if not np.isfinite(past).any() or not np.isfinite(since).any():
        return float("nan"), float("nan"), None
    before = float(np.nanmedian(past))
    after = float(since[np.nanargmax(np.abs(since - before))])
    low, high = np.nanquantile(past, [0.01, 0.99])
    outside = np.flatnonzero((since > high) if after > before else (since < low))
    return before, after, int(case.timestamps[onset + outside[0]]) if len(outside) else None
