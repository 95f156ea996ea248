"""Core values as the API shows them. Telemetry text passes through its display form here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from aiops.api import schemas as out
from aiops.api import schemas_operations as ops
from aiops.core.action import ActionProposal
from aiops.core.anomaly import Anomaly
from aiops.core.audit import AuditEntry
from aiops.core.cost import BudgetState, CostAnomaly, CostForecast, CostSeries
from aiops.core.evidence import Answer, Evidence, Figure
from aiops.core.incident import Alert, CauseCandidate, Delivery, Incident
from aiops.core.job import Job, Schedule
from aiops.core.model import ModelVersion
from aiops.core.series import SampleBlock
from aiops.core.untrusted import Untrusted

MAX_SERIES = 50
MAX_POINTS = 2000
"""Of one series; the chart shows no more either."""
QUERY_CAP = 4000


def answer(value: Answer) -> out.AnswerOut:
    return out.AnswerOut(
        id=value.id,
        question=value.question,
        text=value.text,
        evidence=[evidence(value.id, e) for e in value.evidence],
        confidence=value.confidence,
        sure=value.sure,
        planner=value.planner,
        answered_ms=value.answered_ms,
        zone=value.zone,
        citations=[out.CitationOut(evidence_id=c.evidence_id, text=c.text) for c in value.citations],
        hypotheses=[
            out.HypothesisOut(text=h.text, kept=h.kept, share=h.share, evidence_ids=list(h.evidence_ids))
            for h in value.hypotheses
        ],
        suggestions=list(value.suggestions),
        limits=list(value.limits),
        proposals=list(value.proposals),
        plan=shown_tree(json.loads(value.plan)) if value.plan else {},
    )


def shown_tree(value: Any) -> Any:
    """JSON whose texts are in their display form."""
    match value:
        case dict():
            return {str(k): shown_tree(v) for k, v in value.items()}
        case list():
            return [shown_tree(v) for v in value]
        case str():
            return _shown(value, QUERY_CAP)
    return value


def evidence(answer_id: str, value: Evidence) -> out.EvidenceOut:
    drawable = (value.series is not None and len(value.series) > 0) or bool(value.figures)
    return out.EvidenceOut(
        id=value.id,
        kind=value.kind,
        title=_shown(value.title),
        source=value.source,
        query=_shown(value.query, QUERY_CAP),
        start_ms=value.start_ms,
        end_ms=value.end_ms,
        state=value.state.value,
        figures=[_figure(f) for f in value.figures],
        lines=[line.display() for line in value.lines],
        series=_series(value.series),
        unit=value.unit,
        newest_ms=value.newest_ms,
        truncated=value.truncated,
        note=_shown(value.note),
        link=_link(value.link),
        chart=f"/api/v1/answers/{answer_id}/charts/{value.id}.png" if drawable else None,
    )


def incident(value: Incident) -> out.IncidentOut:
    return out.IncidentOut(
        id=value.id,
        status=value.status.value,
        severity=value.severity.value,
        title=_shown(value.title),
        service=_shown(value.service),
        opened_ms=value.opened_ms,
        updated_ms=value.updated_ms,
        resolved_ms=value.resolved_ms,
        merged_into=value.merged_into,
        assignee=_shown(value.assignee),
        clear_cause=value.clear_cause,
        simulated=value.simulated,
        paged=value.paged,
        muted=_shown(value.muted),
        affected=[_shown(name) for name in value.affected],
        signals=[
            out.SignalOut(alert=_alert(s.alert), reason=_shown(s.reason), linked_ms=s.linked_ms) for s in value.signals
        ],
        candidates=[_candidate(c) for c in value.candidates],
        timeline=[
            out.TimelineOut(
                time_ms=t.time_ms, actor=_shown(t.actor), event=_shown(t.event), detail=_shown(t.detail, QUERY_CAP)
            )
            for t in value.timeline
        ],
    )


def action(value: ActionProposal) -> out.ActionOut:
    return out.ActionOut(
        id=value.id,
        action=out.ActionBody(
            kind=value.action.kind, target=_shown(value.action.target), parameters=_labels(value.action.parameters)
        ),
        incident_id=value.incident_id,
        reason=_shown(value.reason, QUERY_CAP),
        evidence=[_shown(e) for e in value.evidence],
        proposer=value.proposer,
        created_ms=value.created_ms,
        expires_ms=value.expires_ms,
        destructive=value.destructive,
        status=value.status.value,
        decided_by=value.decided_by,
        decided_ms=value.decided_ms,
        result=_shown(value.result, QUERY_CAP),
        digest=value.digest,
    )


def cost_summary(value: CostSeries, start_ms: int, end_ms: int) -> ops.CostSummaryOut:
    return ops.CostSummaryOut(
        start_ms=start_ms,
        end_ms=end_ms,
        columns=list(value.columns),
        currency=value.currency,
        newest_ms=value.newest_ms,
        days=[int(d) for d in value.days],
        total=float(value.amounts.sum()),
        groups=[
            ops.CostGroupOut(
                group=[_shown(part) for part in group],
                total=float(value.amounts[i].sum()),
                amounts=[float(a) for a in value.amounts[i]],
            )
            for i, group in enumerate(value.groups)
        ],
    )


def forecast(value: CostForecast) -> ops.ForecastOut:
    return ops.ForecastOut(
        month_start_ms=value.month_start_ms,
        spent=value.spent,
        expected=value.expected,
        lower=value.lower,
        upper=value.upper,
        currency=value.currency,
        method=value.method,
    )


def cost_anomaly(value: CostAnomaly) -> ops.CostAnomalyOut:
    return ops.CostAnomalyOut(
        day_ms=value.day_ms,
        columns=list(value.columns),
        group=[_shown(part) for part in value.group],
        amount=value.amount,
        expected=value.expected,
        currency=value.currency,
        kind=value.kind,
        days=value.days,
        excess=value.excess,
    )


def budget(value: BudgetState) -> ops.BudgetStateOut:
    return ops.BudgetStateOut(
        budget=ops.BudgetOut(
            name=value.budget.name,
            amount=value.budget.amount,
            currency=value.budget.currency,
            where=dict(value.budget.where),
        ),
        forecast=forecast(value.forecast),
        state=value.state,
    )


def model_version(value: ModelVersion) -> ops.ModelVersionOut:
    return ops.ModelVersionOut(
        name=value.name,
        version=value.version,
        family=value.family,
        run_id=value.run_id,
        created_ms=value.created_ms,
        aliases=list(value.aliases),
        dataset=value.dataset,
        parameters=dict(value.parameters),
        metrics=dict(value.metrics),
    )


def notification(value: Delivery) -> ops.NotificationOut:
    told = value.notification
    return ops.NotificationOut(
        id=told.id,
        receiver=told.receiver,
        event=told.event.value,
        incident_id=told.incident.id,
        created_ms=told.created_ms,
        status=value.status.value,
        attempts=value.attempts,
        next_attempt_ms=value.next_attempt_ms,
        delivered_ms=value.delivered_ms,
        last_error=_shown(value.last_error),
    )


def job(value: Job) -> ops.JobOut:
    return ops.JobOut(
        id=value.id,
        kind=value.kind,
        arguments=dict(value.arguments),
        status=value.status.value,
        created_ms=value.created_ms,
        created_by=value.created_by,
        due_ms=value.due_ms,
        started_ms=value.started_ms,
        finished_ms=value.finished_ms,
        attempts=value.attempts,
        max_attempts=value.max_attempts,
        progress=value.progress,
        cancelling=value.cancelling,
        priority=value.priority,
        pool=value.pool,
        log=[_shown(line) for line in value.log],
        error=_shown(value.error),
    )


def schedule(value: Schedule) -> ops.ScheduleOut:
    return ops.ScheduleOut(
        name=value.name,
        cron=value.cron,
        zone=value.zone,
        kind=value.kind,
        next_run_ms=value.next_run_ms,
        last_run_ms=value.last_run_ms,
    )


def audit_entry(value: AuditEntry) -> ops.AuditEntryOut:
    return ops.AuditEntryOut(
        sequence=value.sequence,
        time_ms=value.time_ms,
        actor=_shown(value.actor),
        action=_shown(value.action),
        subject=_shown(value.subject),
        detail=_labels(value.detail),
        hash=value.hash,
    )


def _alert(value: Alert) -> out.AlertOut:
    return out.AlertOut(
        fingerprint=_shown(value.fingerprint),
        kind=value.kind.value,
        name=_shown(value.name),
        service=_shown(value.service),
        labels=_labels(value.labels),
        severity=value.severity.value,
        starts_ms=value.starts_ms,
        updated_ms=value.updated_ms,
        ends_ms=value.ends_ms,
        summary=value.summary.display(),
        source=_shown(value.source),
        link=_link(value.link),
        annotations={_shown(k): v.display() for k, v in value.annotations},
        anomaly=value.anomaly and out.AnomalyOut.model_validate(anomaly_fields(value.anomaly)),
    )


def anomaly_fields(value: Anomaly) -> dict[str, Any]:
    """What both an alert and a list show of an episode."""
    return {
        "id": value.id,
        "metric": _shown(value.metric),
        "query": _shown(value.query, QUERY_CAP),
        "kind": value.kind,
        "direction": value.direction,
        "value": value.value,
        "expected": value.expected,
        "lower": value.lower,
        "upper": value.upper,
        "score": value.score,
        "p_value": value.p_value,
        "unit": value.unit,
        "model": value.model,
        "terms": dict(value.terms),
        "beside": {_shown(name): score for name, score in value.beside},
        "note": _shown(value.note),
    }


def _candidate(value: CauseCandidate) -> out.CandidateOut:
    return out.CandidateOut(
        service=_shown(value.service),
        share=value.share,
        metric=_shown(value.metric),
        before=value.before,
        after=value.after,
        first_deviation_ms=value.first_deviation_ms,
        path=[_shown(p) for p in value.path],
        reasons=[_shown(r) for r in value.reasons],
        query=_shown(value.query, QUERY_CAP),
        change=_shown(value.change),
    )


def _figure(value: Figure) -> out.FigureOut:
    return out.FigureOut(name=_shown(value.name), value=value.value, unit=value.unit, labels=_labels(value.labels))


def _series(block: SampleBlock | None) -> list[out.SeriesOut]:
    found = []
    for i in range(min(len(block), MAX_SERIES) if block is not None else 0):
        assert block is not None
        ts, values = block.series(i)
        points = [(int(t), float(v)) for t, v in zip(ts[-MAX_POINTS:], values[-MAX_POINTS:], strict=True)]
        found.append(out.SeriesOut(labels=_labels(block.labels[i]), points=points))
    return found


def _labels(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {_shown(k): _shown(v) for k, v in pairs}


def _shown(text: str, cap: int = 500) -> str:
    return Untrusted(text).display(cap)


def _link(text: str) -> str:
    """Only links that a browser may follow without running anything."""
    return _shown(text, 2000) if text.startswith(("https://", "http://", "/")) else ""
