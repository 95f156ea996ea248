"""Runs log, trace, change, incident and discover steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from aiops.agent.catalogue import Catalogue
from aiops.agent.found import Asking, Found
from aiops.agent.ports import IncidentLookup
from aiops.agent.retrieval import MetricIndex
from aiops.core.errors import NotFound, TransientError
from aiops.core.evidence import Evidence, EvidenceState, Figure
from aiops.core.incident import Incident
from aiops.core.ports import LogSource, SignalReader, SpanSource
from aiops.core.query import ChangeStep, DiscoverStep, IncidentStep, LogStep, Step, TraceStep
from aiops.core.series import labels_of
from aiops.core.signals import LogPattern, LogQuery, LogRecord
from aiops.core.untrusted import Untrusted
from aiops.ingest.log_templates.miner import TemplateMiner


def evidence(
    kind: str,
    step: Step,
    source: str,
    query: str,
    window: tuple[int, int],
    figures: list[Figure],
    lines: list[Untrusted],
    *,
    found: bool,
    newest_ms: int | None = None,
    truncated: bool = False,
    note: str = "",
) -> Evidence:
    """A piece of evidence of rows rather than series."""
    state = EvidenceState.OK if found else EvidenceState.NO_MATCH
    return Evidence("", kind, step.title, source, query, *window, state, tuple(figures), tuple(lines),
                    newest_ms=newest_ms, truncated=truncated, note=note)  # fmt: skip


MINED_LINES = 2000
"""Newest lines of another system that patterns are made of."""


def _down(step: LogStep | TraceStep, kind: str, source: str, window: tuple[int, int], error: TransientError) -> Found:
    shown = Evidence("", kind, step.title or kind, source, kind, *window, EvidenceState.SOURCE_DOWN, note=str(error))
    return Found(step, (shown,), matched=0)


def patterns_of(records: Sequence[LogRecord]) -> list[LogPattern]:
    """The patterns of lines that were never mined, by a miner of their own."""
    miner = TemplateMiner()
    mined = miner.mine(records)
    texts = {template.id: template.text for template in miner.changes()}
    groups: dict[tuple[str, str], list[LogRecord]] = defaultdict(list)
    for record in mined:
        groups[record.service, record.template_id].append(record)
    return [
        LogPattern(
            service, texts.get(template, rows[0].body), len(rows), max(r.severity_number for r in rows),
            min(r.time_unix_nano for r in rows) // 1_000_000, max(r.time_unix_nano for r in rows) // 1_000_000,
            template_id=template, example=rows[0].body,
        )
        for (service, template), rows in groups.items()
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Systems that hold logs and traces and are asked in place of the store, by their configured names."""

    logs: LogSource | None = None
    logs_name: str = "logs"
    spans: SpanSource | None = None
    spans_name: str = "traces"


NOWHERE_ELSE = Elsewhere()


@dataclass(frozen=True, slots=True)
class SignalRunner:
    signals: SignalReader
    elsewhere: Elsewhere = NOWHERE_ELSE

    def log(self, step: LogStep, asking: Asking) -> Found:
        window = step.window.resolve(asking.now_ms)
        try:
            return self._patterns(step, asking, window) if step.patterns else self._lines(step, asking, window)
        except TransientError as error:
            return _down(step, "log", self.elsewhere.logs_name, window, error)

    def _lines(self, step: LogStep, asking: Asking, window: tuple[int, int]) -> Found:
        query = LogQuery(*window, step.service, step.contains, step.min_severity, limit=step.limit + 1)
        rows = (self.elsewhere.logs or self.signals).logs(query, asking.principal)
        cut = len(rows) > step.limit
        rows = rows[: step.limit]
        said = "log lines" + (f" of {step.service}" if step.service else "")
        said += f" containing '{step.contains}'" if step.contains else ""
        said += f" at severity {step.min_severity} or above" if step.min_severity else ""
        lines = [Untrusted(f"{r.service} {r.severity_text} {r.body.raw}") for r in rows]
        newest = max((r.time_unix_nano // 1_000_000 for r in rows), default=None)
        figures = [Figure(float(len(rows)), "1", name="lines")]
        shown = evidence(
            "log", step, self.elsewhere.logs_name, said, window, figures, lines,
            found=bool(rows), newest_ms=newest, truncated=cut,
        )  # fmt: skip
        return Found(step, (shown,), matched=len(rows))

    def _patterns(self, step: LogStep, asking: Asking, window: tuple[int, int]) -> Found:
        if self.elsewhere.logs is not None:
            query = LogQuery(*window, step.service, step.contains, step.min_severity, limit=MINED_LINES)
            rows = patterns_of(self.elsewhere.logs.logs(query, asking.principal))
        else:
            rows = self.signals.log_patterns(*window, asking.principal, step.service, 200)
        rows = [r for r in rows if r.severity_number >= step.min_severity]
        rows.sort(key=lambda r: -r.count)
        shown = rows[: step.limit]
        figures = [Figure(float(r.count), "1", labels_of({"service": r.service}), "lines") for r in shown]
        lines = [Untrusted(f"{r.service}: {r.pattern.raw}") for r in shown]
        said = "log patterns" + (f" of {step.service}" if step.service else "")
        said += f" at severity {step.min_severity} or above" if step.min_severity else ""
        return Found(step, (evidence("log", step, self.elsewhere.logs_name, said, window, figures, lines,
                                     found=bool(rows), newest_ms=max((r.last_ms for r in rows), default=None),
                                     truncated=len(rows) > len(shown)),), matched=len(rows))  # fmt: skip

    def trace(self, step: TraceStep, asking: Asking) -> Found:
        window = step.window.resolve(asking.now_ms)
        reader = self.elsewhere.spans or self.signals
        try:
            spans = reader.spans(*window, asking.principal, step.service, 1000)
        except TransientError as error:
            return _down(step, "trace", self.elsewhere.spans_name, window, error)
        order = sorted(spans, key=lambda s: -s.duration_ms)[: step.limit]
        figures = [
            Figure(s.duration_ms / 1000, "s", labels_of({"service": s.service, "trace_id": s.trace_id}), "span")
            for s in order
        ]
        figures.append(Figure(float(len(spans)), "1", name="spans"))
        figures.append(Figure(float(sum(s.status == "error" for s in spans)), "1", name="failed spans"))
        lines = [Untrusted(f"{s.service}: {s.name.raw} ({s.kind}, {s.status})") for s in order]
        said = "slowest spans" + (f" of {step.service}" if step.service else "")
        newest = max((s.end_unix_nano // 1_000_000 for s in spans), default=None)
        return Found(step, (evidence("trace", step, "traces", said, window, figures, lines, found=bool(spans),
                                     newest_ms=newest, truncated=len(spans) >= 1000),), matched=len(spans))  # fmt: skip

    def change(self, step: ChangeStep, asking: Asking) -> Found:
        window = step.window.resolve(asking.now_ms)
        return Found(step, (self.changes(step, asking, window, step.service, step.limit),))

    def changes(self, step: Step, asking: Asking, window: tuple[int, int], service: str, limit: int = 20) -> Evidence:
        """Deploys and the like in a window, newest first."""
        rows = sorted(self.signals.changes(*window, asking.principal, service), key=lambda c: -c.time_ms)
        shown = rows[:limit]
        figures = [
            Figure(c.time_ms / 1000, "time", labels_of({"service": c.service, "kind": c.kind}), "change") for c in shown
        ]
        figures.append(Figure(float(len(rows)), "1", name="changes"))
        lines = [
            Untrusted(f"{c.service} {c.kind}: {c.title.raw}" + (f" by {c.author}" if c.author else "")) for c in shown
        ]
        said = "changes" + (f" of {service}" if service else "")
        return evidence("change", step, "changes", said, window, figures, lines, found=bool(rows),
                        newest_ms=max((c.time_ms for c in rows), default=None),
                        truncated=len(rows) > limit)  # fmt: skip

    def services(self, step: DiscoverStep, asking: Asking) -> Found:
        window = step.window.resolve(asking.now_ms)
        graph = self.signals.service_graph(*window, asking.principal)
        lines = [Untrusted(f"{a} calls {b}") for a, b in graph.edges[: step.limit]]
        figures = [Figure(float(len(graph.services)), "1", name="services"),
                   Figure(float(len(graph.edges)), "1", name="calls")]  # fmt: skip
        figures += [Figure(1.0, "present", labels_of({"service": s}), "service") for s in graph.services[: step.limit]]
        return Found(step, (evidence("discover", step, "traces", "services and their calls, from spans", window,
                                     figures, lines, found=bool(graph.services),
                                     truncated=len(graph.services) > step.limit),))  # fmt: skip


def metrics_like(step: DiscoverStep, asking: Asking, catalogue: Catalogue, source: str) -> Found:
    """Metric names whose name or help resembles the words."""
    known = catalogue.metrics()
    names = [n for n, _ in MetricIndex(known).search(step.words, step.limit)] if step.words else []
    names = names or sorted(known)[: step.limit]
    lines = [Untrusted(f"{n} ({known[n].type}) {known[n].help}".strip()) for n in names]
    figures = [Figure(float(len(known)), "1", name="metrics")]
    figures += [Figure(1.0, "present", labels_of({"metric": n}), "metric") for n in names]
    window = step.window.resolve(asking.now_ms)
    said = f"metric names like '{step.words}'" if step.words else "metric names"
    return Found(step, (evidence("discover", step, source, said, window, figures, lines, found=bool(known),
                                 truncated=len(known) > len(names)),))  # fmt: skip


@dataclass(frozen=True, slots=True)
class IncidentRunner:
    incidents: IncidentLookup

    def run(self, step: IncidentStep, asking: Asking) -> Found:
        window = step.window.resolve(asking.now_ms)
        if step.incident_id:
            try:
                rows = [self.incidents.get(step.incident_id, asking.principal)]
            except NotFound:
                rows = []
        else:
            rows = self.incidents.list(asking.principal, None, 200)
            if step.active_only:
                rows = [i for i in rows if i.active]
            else:
                rows = [i for i in rows if i.opened_ms < window[1] and (i.active or i.updated_ms >= window[0])]
            if step.resolved_only:
                rows = [i for i in rows if not i.active]
            rows = [i for i in rows if not step.service or step.service in touched(i)]
        rows.sort(key=lambda i: (not i.active, -i.opened_ms))
        shown = rows[: step.limit]
        said = "incidents" + (
            " that are active" if step.active_only else " that are resolved" if step.resolved_only else ""
        )
        said += f" of {step.service}" if step.service else ""
        return Found(
            step,
            (evidence("incident", step, "incidents", said, window, incident_figures(shown, len(rows)),
                      [Untrusted(i.title) for i in shown], found=bool(rows), truncated=len(rows) > step.limit),),
            matched=len(rows),
        )  # fmt: skip


def incident_figures(shown: list[Incident], total: int) -> list[Figure]:
    figures = [
        Figure(i.opened_ms / 1000, "time",
               labels_of({"incident": i.id, "service": i.service, "status": i.status.value,
                          "severity": i.severity.value}),
               "opened")
        for i in shown
    ]  # fmt: skip
    return [*figures, Figure(float(total), "1", name="incidents")]


def touched(incident: Incident) -> frozenset[str]:
    """Services that an incident is about: its own, those of its signals, and those on the paths of its causes."""
    own = {incident.service, *(s.alert.service for s in incident.signals)}
    causes = {c.service for c in incident.candidates if c.share >= 0.1}
    paths = {p for c in incident.candidates[:3] for p in c.path}
    return frozenset(x for x in own | causes | paths if x)
