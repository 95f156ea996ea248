"""Requests and responses about costs, models, deliveries, jobs, the audit trail and webhooks.

The conventions are those of :mod:`aiops.api.schemas`.
"""

from __future__ import annotations

from pydantic import Field

from aiops.api.schemas import Number, Reply, RequestBody, Text

# ---------------------------------------------------------------- costs


class CostGroupOut(Reply):
    group: list[Text]
    total: Number
    amounts: list[Number] = Field(description="one a day")


class CostSummaryOut(Reply):
    start_ms: int
    end_ms: int
    columns: list[str]
    currency: str
    newest_ms: int = Field(description="end of the latest charge seen")
    days: list[int]
    total: Number
    groups: list[CostGroupOut]


class ForecastOut(Reply):
    month_start_ms: int
    spent: Number
    expected: Number
    lower: Number
    upper: Number
    currency: str
    method: str


class CostAnomalyOut(Reply):
    day_ms: int
    columns: list[str]
    group: list[Text]
    amount: Number
    expected: Number
    currency: str
    kind: str
    days: int
    excess: Number


class CostAnomalyList(Reply):
    anomalies: list[CostAnomalyOut]


class BudgetOut(Reply):
    name: str
    amount: Number
    currency: str
    where: dict[str, str]


class BudgetStateOut(Reply):
    budget: BudgetOut
    forecast: ForecastOut
    state: str


class BudgetList(Reply):
    budgets: list[BudgetStateOut]


class ImportOut(Reply):
    rows: int


# ---------------------------------------------------------------- the rest


class ModelVersionOut(Reply):
    name: str
    version: str
    family: str
    run_id: str
    created_ms: int
    aliases: list[str]
    dataset: str
    parameters: dict[str, str]
    metrics: dict[str, Number]


class ModelOut(Reply):
    name: str
    versions: list[ModelVersionOut]


class ModelList(Reply):
    models: list[ModelOut]


class NotificationOut(Reply):
    id: str
    receiver: str
    event: str
    incident_id: str
    created_ms: int
    status: str
    attempts: int
    next_attempt_ms: int
    delivered_ms: int | None
    last_error: Text


class NotificationList(Reply):
    notifications: list[NotificationOut]


class TestIn(RequestBody):
    receiver: str = Field(min_length=1, max_length=200)


class TestOut(Reply):
    receiver: str
    thread: Text


class BackfillIn(RequestBody):
    source: str = Field(min_length=1, max_length=200, description="name of a configured telemetry source")
    days: float = Field(14.0, gt=0, le=400)


class JobOut(Reply):
    id: str
    kind: str
    arguments: dict[str, Text]
    status: str
    created_ms: int
    created_by: str
    due_ms: int
    started_ms: int | None
    finished_ms: int | None
    attempts: int
    max_attempts: int
    progress: Number
    cancelling: bool
    priority: int
    pool: str
    log: list[Text]
    error: Text


class JobList(Reply):
    jobs: list[JobOut]


class ScheduleOut(Reply):
    name: str
    cron: str
    zone: str
    kind: str
    next_run_ms: int | None
    last_run_ms: int | None


class ScheduleList(Reply):
    schedules: list[ScheduleOut]


class AuditEntryOut(Reply):
    sequence: int
    time_ms: int
    actor: Text
    action: Text
    subject: Text
    detail: dict[Text, Text]
    hash: str


class AuditList(Reply):
    entries: list[AuditEntryOut]


class AuditVerdict(Reply):
    whole: bool
    entries: int
    head_sequence: int
    head_hash: str
    broken: AuditEntryOut | None


class WebhookOut(Reply):
    alerts: int
    changes: int
    updates: int = Field(0, description="what was done to our incidents there, and had not been done here yet")
