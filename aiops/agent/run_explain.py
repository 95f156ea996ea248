"""Runs explain steps: the incident of a service (or of what it calls), its ranked causes, changes near the onset,
the service's request rate, errors and latency now and before, and its error log patterns."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.agent import skeletons
from aiops.agent.catalogue import Catalogue
from aiops.agent.concepts import Concept, load_concepts
from aiops.agent.found import Asking, Found
from aiops.agent.ports import IncidentLookup
from aiops.agent.run_metrics import MetricRunner
from aiops.agent.run_signals import SignalRunner, evidence, touched
from aiops.core.errors import AiopsError, NotFound, TransientError
from aiops.core.evidence import Evidence, Figure
from aiops.core.incident import Incident
from aiops.core.query import CompareStep, ExplainStep, LogStep, Window
from aiops.core.series import labels_of
from aiops.core.untrusted import Untrusted

RECENT_MS = 3_600_000
YOUNG_MS = 15 * 60_000
BEFORE_ONSET_MS = 15 * 60_000
RED = ("http_request_rate", "http_error_ratio", "http_latency")
CAUSES = 5


@dataclass(frozen=True, slots=True)
class ExplainRunner:
    """Missing organs are named in the limits."""

    metrics: MetricRunner
    signals: SignalRunner | None
    incidents: IncidentLookup | None

    def run(self, step: ExplainStep, asking: Asking, catalogue: Catalogue) -> Found:
        limits: list[str] = []
        incident = self._incident(step, asking, limits)
        service = step.service or (incident.service if incident else "")
        onset = incident.opened_ms if incident else asking.now_ms - int(step.window.last_s * 1000)
        if incident:
            firsts = [c.first_deviation_ms for c in incident.candidates[:1] if c.first_deviation_ms]
            onset = min([onset, *firsts])
        parts: list[Evidence] = []
        if self.incidents is not None:
            parts.append(self._incident_evidence(step, incident, asking))
        if self.signals is not None:
            cause = incident.candidates[0].service if incident and incident.candidates else ""
            parts.extend(self._around(step, asking, onset, service, cause))
        else:
            limits.append("Logs, traces and changes are not available here.")
        end = incident.resolved_ms if incident and incident.resolved_ms else asking.now_ms
        try:
            parts.extend(self._red(service, asking, catalogue, onset, end, limits))
        except TransientError as error:
            limits.append(f"The metric source did not answer: {error.message}")
        return Found(step, tuple(parts), incident=incident, limits=tuple(limits))

    def _incident(self, step: ExplainStep, asking: Asking, limits: list[str]) -> Incident | None:
        """The named incident, else the newest active one that touches the service, else one resolved lately."""
        if self.incidents is None:
            limits.append("Incidents are not available here.")
            return None
        if step.incident_id:
            try:
                return self.incidents.get(step.incident_id, asking.principal)
            except NotFound:
                limits.append(f"There is no incident '{step.incident_id}'.")
                return None
        rows = [i for i in self.incidents.list(asking.principal, None, 100) if not i.merged_into]
        start, _ = step.window.resolve(asking.now_ms)
        mine = [i for i in rows if not step.service or step.service in touched(i)]
        near = [i for i in rows if i not in mine and self._calls(step.service, i.service, asking)]
        for group in (mine, near):
            active = [i for i in group if i.active]
            if active:
                return max(active, key=lambda i: (i.service == step.service, i.opened_ms))
        recent = [
            i for i in mine if i.resolved_ms is not None and i.resolved_ms >= min(start, asking.now_ms - RECENT_MS)
        ]
        return max(recent, key=lambda i: i.opened_ms, default=None)

    def _calls(self, service: str, other: str, asking: Asking) -> bool:
        """Whether ``service`` reaches ``other`` along the calls of the past hour."""
        if self.signals is None or not service or not other:
            return False
        graph = self.signals.signals.service_graph(asking.now_ms - RECENT_MS, asking.now_ms, asking.principal)
        reach, stack = {service}, [service]
        while stack:
            at = stack.pop()
            for caller, callee in graph.edges:
                if caller == at and callee not in reach:
                    reach.add(callee)
                    stack.append(callee)
        return other in reach

    def _incident_evidence(self, step: ExplainStep, incident: Incident | None, asking: Asking) -> Evidence:
        window = step.window.resolve(asking.now_ms)
        if incident is None:
            who = step.service or "any service"
            none = [Figure(0.0, "1", name="incidents"), *self._elsewhere(asking)]
            return evidence("incident", step, "incidents", f"incidents that touch {who}", window, none, [], found=False)
        figures = [
            Figure(incident.opened_ms / 1000, "time",
                   labels_of({"incident": incident.id, "service": incident.service, "status": incident.status.value,
                              "severity": incident.severity.value}), "opened"),
            Figure(float(len(incident.signals)), "1", name="signals"),
        ]  # fmt: skip
        if incident.resolved_ms:
            figures.append(Figure(incident.resolved_ms / 1000, "time", name="resolved"))
        for c in incident.candidates[:CAUSES]:
            cause = labels_of({"service": c.service, "metric": c.metric, "path": " → ".join(c.path)})
            figures.append(Figure(c.share, "ratio", cause, "cause"))
            if c.before == c.before and c.after == c.after:
                figures.append(Figure(c.before, _unit(c.metric), cause, "before"))
                figures.append(Figure(c.after, _unit(c.metric), cause, "after"))
            if c.first_deviation_ms:
                figures.append(Figure(c.first_deviation_ms / 1000, "time", cause, "first deviation"))
        lines = [Untrusted(f"{s.alert.name}: {s.alert.summary.raw} ({s.reason})") for s in incident.signals[:8]]
        lines += [Untrusted(f"{c.service}: {r}") for c in incident.candidates[:3] for r in c.reasons]
        lines += [Untrusted(f"{c.service}: change {c.change}") for c in incident.candidates[:3] if c.change]
        end = incident.resolved_ms or asking.now_ms
        return evidence("incident", step, "incidents", f"incident {incident.id}",
                        (min(incident.opened_ms, end - 1000), end), figures, lines, found=True,
                        newest_ms=incident.updated_ms)  # fmt: skip

    def _elsewhere(self, asking: Asking) -> list[Figure]:
        """Active incidents of other services."""
        if self.incidents is None:
            return []
        active = [i for i in self.incidents.list(asking.principal, None, 100) if i.active]
        return [
            Figure(
                i.opened_ms / 1000,
                "time",
                labels_of({"incident": i.id, "service": i.service or "unknown"}),
                "elsewhere",
            )
            for i in active[:3]
        ]  # fmt: skip

    def _around(self, step: ExplainStep, asking: Asking, onset: int, service: str, cause: str) -> list[Evidence]:
        assert self.signals is not None
        window = (onset - BEFORE_ONSET_MS, asking.now_ms)
        changed = step.model_copy(update={"title": "changes since shortly before the onset"})
        parts = [self.signals.changes(changed, asking, window, "", 8)]
        whose = cause or service
        logs = LogStep(title=f"log patterns of {whose} that hold error lines", service=whose, min_severity=17,
                       patterns=True, limit=5,
                       window=Window(start_ms=window[0], end_ms=window[1]))  # fmt: skip
        parts.extend(self.signals.log(logs, asking).evidence)
        return parts

    def _red(
        self, service: str, asking: Asking, catalogue: Catalogue, onset: int, end: int, limits: list[str]
    ) -> list[Evidence]:
        """Request rate, errors and latency of the service, now and before the onset."""
        parts: list[Evidence] = []
        if not service:
            return parts
        concepts = {c.id: c for c in load_concepts()}
        for concept in (concepts[i] for i in RED):
            found: list[Evidence] = []
            # A fault of minutes would drown in five of them; sparse scrapes need the five.
            for rate_window in ("1m", "5m") if end - onset < YOUNG_MS else ("5m",):
                try:
                    found = self._one_red(concept, service, asking, catalogue, (onset, end), rate_window)
                except TransientError:
                    raise
                except AiopsError as error:
                    limits.append(f"{concept.title} of {service} could not be read: {error.message}")
                if found and found[0].figures:
                    break
            parts.extend(found)
        if not parts:
            limits.append(f"No request metrics of {service} were found.")
        return parts

    def _one_red(
        self,
        concept: Concept,
        service: str,
        asking: Asking,
        catalogue: Catalogue,
        span: tuple[int, int],
        rate_window: str,
    ) -> list[Evidence]:
        """One figure of the service now and before ``span``; empty where no way to measure it knows the service."""
        onset, end = span
        back = max(RECENT_MS // 4, end - onset + 600_000)
        window = Window(start_ms=end - max(RECENT_MS, back + 600_000), end_ms=end)
        for form in concept.forms:
            known = {m: catalogue.labels(m) for m in form.metrics}
            tables = [t or {} for t in known.values()]
            label = next((n for n in skeletons.SERVICE_LABELS if all(service in t.get(n, ()) for t in tables)), "")
            if not label:
                continue
            text = skeletons.fill(form.value or form.quantile, known, rate_window=rate_window)
            text = skeletons.select(text, form.metrics, label, service)
            ask = CompareStep(title=f"{concept.title}, {service}", promql=text, unit=concept.unit, bad=concept.bad,
                              back_s=back / 1000, window=window, limit=1)  # fmt: skip
            return list(self.metrics.compare(ask, asking, catalogue).evidence)
        return []


def _unit(metric: str) -> str:
    """The unit that a metric's own name states."""
    low = metric.lower()
    return next((unit for part, unit in _UNITS if part in low), "")


_UNITS = (
    ("bytes", "By"), ("memory", "By"), ("seconds", "s"), ("duration", "s"), ("latency", "s"), ("ratio", "ratio"),
    ("share", "ratio"), ("request rate", "/s"), ("per second", "/s"),
)  # fmt: skip
