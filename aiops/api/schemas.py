"""Requests and responses of our own routes.

Times are ms UTC. Text that came from telemetry is in its display form: one line, no control characters, capped.
A number that is not finite is ``null``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _without_surrogates(value: object) -> object:
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Text = Annotated[str, BeforeValidator(_without_surrogates)]
Number = Annotated[float | None, BeforeValidator(_finite)]
Labels = dict[Text, Text]


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reply(BaseModel):
    pass


# ---------------------------------------------------------------- health and status


class ComponentOut(Reply):
    name: str
    state: str = Field(description="starting, ready, degraded or down")
    detail: Text = ""
    required: bool = Field(False, description="the service is not ready without it")


class Readiness(Reply):
    ready: bool
    components: list[ComponentOut]


class StoreOut(Reply):
    series: int
    samples: int
    logs: int
    spans: int
    costs: int
    bytes: int
    oldest_ms: int | None
    newest_ms: int | None


class StatusOut(Reply):
    version: str
    versions: dict[str, str]
    ready: bool
    auth: str
    components: list[ComponentOut]
    store: StoreOut
    incidents: dict[str, int] = Field(description="active incidents that the caller may see, by status")
    notifications: dict[str, int]
    jobs: dict[str, int]


# ---------------------------------------------------------------- questions


class AskIn(RequestBody):
    question: str = Field(min_length=1, max_length=2000)
    conversation: str = Field("", max_length=80, pattern=r"^[A-Za-z0-9._:-]*$", description="ties follow-ups together")
    zone: str = Field("", max_length=60, description="IANA time zone of the answer")


class FeedbackIn(RequestBody):
    helpful: bool
    note: str = Field("", max_length=2000)


class AnswerBrief(Reply):
    id: str
    question: Text
    first_line: Text
    sure: bool
    confidence: Number
    planner: str
    asked_ms: int
    conversation: str


class AnswerList(Reply):
    answers: list[AnswerBrief]


class SavedQuestionIn(RequestBody):
    question: str = Field(min_length=1, max_length=2000)
    zone: str = Field("", max_length=60, description="IANA time zone of the answer; empty: the service's")


class SavedQuestionOut(Reply):
    name: str
    question: Text
    zone: str
    author: str
    saved_ms: int


class SavedQuestionList(Reply):
    questions: list[SavedQuestionOut]


class FigureOut(Reply):
    name: Text
    value: Number
    unit: str
    labels: Labels


class SeriesOut(Reply):
    labels: Labels
    points: list[tuple[int, Number]] = Field(description="(ms UTC, value)")


class EvidenceOut(Reply):
    id: str
    kind: str
    title: Text
    source: Text
    query: Text
    start_ms: int
    end_ms: int
    state: str = Field(description="ok, no_match, does_not_exist, source_down or source_late")
    figures: list[FigureOut]
    lines: list[Text]
    series: list[SeriesOut]
    unit: str
    newest_ms: int | None
    truncated: bool
    note: Text
    link: Text
    chart: str | None = Field(description="path of a PNG, where there is something to draw")


class CitationOut(Reply):
    evidence_id: str
    text: Text


class HypothesisOut(Reply):
    text: Text
    kept: bool
    share: Number
    evidence_ids: list[str]


class AnswerOut(Reply):
    id: str
    question: Text
    text: Text = Field(description="Markdown")
    evidence: list[EvidenceOut]
    confidence: Number
    sure: bool
    planner: str
    answered_ms: int
    zone: str
    citations: list[CitationOut]
    hypotheses: list[HypothesisOut]
    suggestions: list[Text]
    limits: list[Text]
    proposals: list[str] = Field(description="ids of action proposals")
    plan: dict[str, Any] = Field(description="the plan that was carried out, without its defaults")


# ---------------------------------------------------------------- incidents


class AssignIn(RequestBody):
    assignee: str = Field(max_length=200, description="who works on it; empty: nobody")


class NoteIn(RequestBody):
    text: str = Field(min_length=1, max_length=4000)


class ResolveIn(RequestBody):
    reason: str = Field("", max_length=4000)


class MergeIn(RequestBody):
    into: str = Field(min_length=1, max_length=80, description="id of the incident that stays")


class SplitIn(RequestBody):
    fingerprints: list[str] = Field(min_length=1, max_length=200, description="signals that leave")
    reason: str = Field("", max_length=1000)


class AnomalyOut(Reply):
    id: str
    metric: Text
    query: Text
    kind: str
    direction: str
    value: Number
    expected: Number
    lower: Number
    upper: Number
    score: Number
    p_value: Number
    unit: str
    model: str
    terms: dict[str, Number]
    beside: dict[str, Number] = {}
    note: Text = ""


class AlertOut(Reply):
    fingerprint: Text
    kind: str
    name: Text
    service: Text
    labels: Labels
    severity: str
    starts_ms: int
    updated_ms: int
    ends_ms: int | None
    summary: Text
    source: Text
    link: Text
    annotations: Labels
    anomaly: AnomalyOut | None


class SignalOut(Reply):
    alert: AlertOut
    reason: Text
    linked_ms: int


class CandidateOut(Reply):
    service: Text
    share: Number
    metric: Text
    before: Number
    after: Number
    first_deviation_ms: int | None
    path: list[Text]
    reasons: list[Text]
    query: Text
    change: Text


class TimelineOut(Reply):
    time_ms: int
    actor: Text
    event: Text
    detail: Text


class IncidentOut(Reply):
    id: str
    status: str
    severity: str
    title: Text
    service: Text
    opened_ms: int
    updated_ms: int
    resolved_ms: int | None
    merged_into: str
    assignee: Text
    clear_cause: bool
    simulated: bool
    paged: bool
    muted: Text = Field(description="why nobody is told of it at the moment; empty where somebody is")
    affected: list[Text] = Field(description="services that depend on the clear cause, the nearest first")
    signals: list[SignalOut]
    candidates: list[CandidateOut]
    timeline: list[TimelineOut]


class SimilarOut(Reply):
    incident: IncidentOut
    score: float = Field(description="weighted share of traits in common, 0 to 1")
    common: list[Text]
    ended_by: list[Text]


class SimilarList(Reply):
    similar: list[SimilarOut]


class IncidentList(Reply):
    incidents: list[IncidentOut]


# ---------------------------------------------------------------- actions


class ProposeIn(RequestBody):
    kind: str = Field(min_length=1, max_length=80)
    target: str = Field(min_length=1, max_length=300)
    parameters: dict[str, str] = Field(default_factory=dict, max_length=50)
    incident_id: str = Field(min_length=1, max_length=80)
    reason: str = Field("", max_length=1000)


class ApproveIn(RequestBody):
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="digest of the proposal as it was shown")


class RejectIn(RequestBody):
    reason: str = Field("", max_length=500)


class ActionBody(Reply):
    kind: str
    target: Text
    parameters: Labels


class ActionOut(Reply):
    id: str
    action: ActionBody
    incident_id: str
    reason: Text
    evidence: list[Text]
    proposer: Text
    created_ms: int
    expires_ms: int
    destructive: bool
    status: str
    decided_by: Text
    decided_ms: int | None
    result: Text
    digest: str = Field(description="an approval names it")


class ActionList(Reply):
    actions: list[ActionOut]
