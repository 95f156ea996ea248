"""Tables of the state store. Times are ms UTC; ``body`` columns hold :mod:`~aiops.store.state.codec` JSON."""

from __future__ import annotations

from sqlalchemy import BigInteger, Dialect, ForeignKey, Index, Integer, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class SafeText(TypeDecorator[str]):
    """Text that any database takes: NUL and lone surrogates become visible escapes, alike when compared."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        if value is None:
            return None
        return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {str: SafeText, int: BigInteger}


_sequence = BigInteger().with_variant(Integer, "sqlite")


class CounterRow(Base):
    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class IncidentRow(Base):
    __tablename__ = "incidents"
    __table_args__ = (Index("ix_incidents_status_updated", "status", "updated_ms"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    opened_ms: Mapped[int]
    updated_ms: Mapped[int]
    body: Mapped[str]


class IncidentAlertRow(Base):
    """Which alert fingerprints an incident holds."""

    __tablename__ = "incident_alerts"
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(
        ForeignKey("incidents.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class SilenceRow(Base):
    __tablename__ = "silences"
    id: Mapped[str] = mapped_column(primary_key=True)
    ends_ms: Mapped[int] = mapped_column(index=True)
    body: Mapped[str]


class OutboxRow(Base):
    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_status_next", "status", "next_attempt_ms"),
        Index("ix_outbox_thread", "receiver", "dedup_key"),
    )
    sequence: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    receiver: Mapped[str]
    dedup_key: Mapped[str]
    event: Mapped[str]
    status: Mapped[str]
    attempts: Mapped[int]
    next_attempt_ms: Mapped[int]
    lease_until_ms: Mapped[int]
    created_ms: Mapped[int]
    delivered_ms: Mapped[int | None]
    last_error: Mapped[str]
    thread: Mapped[str]
    body: Mapped[str]


class ActionRow(Base):
    __tablename__ = "actions"
    id: Mapped[str] = mapped_column(primary_key=True)
    incident_id: Mapped[str] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(index=True)
    created_ms: Mapped[int]
    decided_by: Mapped[str]
    decided_ms: Mapped[int | None]
    result: Mapped[str]
    body: Mapped[str]


class AuditRow(Base):
    __tablename__ = "audit"
    sequence: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=False)
    time_ms: Mapped[int]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[str]
    previous_hash: Mapped[str]
    hash: Mapped[str]


class KeyRow(Base):
    __tablename__ = "keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    digest: Mapped[str]
    scope: Mapped[str]
    created_ms: Mapped[int]
    expires_ms: Mapped[int | None]
    revoked_ms: Mapped[int | None]


class MessageRow(Base):
    __tablename__ = "messages"
    sequence: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    conversation: Mapped[str] = mapped_column(index=True)
    speaker: Mapped[str]
    text: Mapped[str]
    time_ms: Mapped[int]
    answer_id: Mapped[str]


class AnswerRow(Base):
    __tablename__ = "answers"
    id: Mapped[str] = mapped_column(primary_key=True)
    conversation: Mapped[str]
    asked_by: Mapped[str]
    asked_ms: Mapped[int] = mapped_column(index=True)
    body: Mapped[str]


class SavedQuestionRow(Base):
    __tablename__ = "saved_questions"
    name: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]


class FeedbackRow(Base):
    __tablename__ = "feedback"
    answer_id: Mapped[str] = mapped_column(ForeignKey("answers.id", ondelete="CASCADE"), primary_key=True)
    principal: Mapped[str] = mapped_column(primary_key=True)
    helpful: Mapped[bool]
    note: Mapped[str]
    time_ms: Mapped[int]


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_due", "status", "due_ms"),)
    sequence: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    arguments: Mapped[str]
    unique_key: Mapped[str | None] = mapped_column(unique=True)
    status: Mapped[str]
    created_ms: Mapped[int]
    created_by: Mapped[str]
    due_ms: Mapped[int]
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    lease_until_ms: Mapped[int | None]
    worker: Mapped[str]
    progress: Mapped[float]
    log: Mapped[str]
    error: Mapped[str]
    started_ms: Mapped[int | None]
    finished_ms: Mapped[int | None]
    cancelling: Mapped[bool]
    priority: Mapped[int] = mapped_column(default=0)
    pool: Mapped[str] = mapped_column(default="")


class ScheduleRow(Base):
    __tablename__ = "schedules"
    name: Mapped[str] = mapped_column(primary_key=True)
    cron: Mapped[str]
    zone: Mapped[str]
    kind: Mapped[str]
    arguments: Mapped[str]
    next_run_ms: Mapped[int | None]
    last_run_ms: Mapped[int | None]


class AnomalyRow(Base):
    __tablename__ = "anomalies"
    id: Mapped[str] = mapped_column(primary_key=True)
    started_ms: Mapped[int] = mapped_column(index=True)
    ended_ms: Mapped[int | None] = mapped_column(index=True)
    body: Mapped[str]


class MarkRow(Base):
    """People's judgements of anomalies; ``anomaly_id`` is empty where one was missed."""

    __tablename__ = "marks"
    id: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    anomaly_id: Mapped[str] = mapped_column(index=True)
    principal: Mapped[str]
    time_ms: Mapped[int] = mapped_column(index=True)
    body: Mapped[str]


class CheckpointRow(Base):
    """Fitted detector states kept under a model version."""

    __tablename__ = "checkpoints"
    id: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    model: Mapped[str] = mapped_column(index=True)
    created_ms: Mapped[int]
    path: Mapped[str]
    digest: Mapped[str]
    detail: Mapped[str]


class DetectionStateRow(Base):
    """Small named documents of the detection loop, such as open episodes and its alarm ledger."""

    __tablename__ = "detection_state"
    name: Mapped[str] = mapped_column(primary_key=True)
    body: Mapped[str]
    updated_ms: Mapped[int]


class DatasetRow(Base):
    """Snapshots that model versions were trained on."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(primary_key=True)
    created_ms: Mapped[int] = mapped_column(index=True)
    body: Mapped[str]


class DeploymentRow(Base):
    __tablename__ = "deployments"
    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    state: Mapped[str] = mapped_column(index=True)
    started_ms: Mapped[int]
    body: Mapped[str]


class ModelUseRow(Base):
    """What jobs and calls of models cost, USD."""

    __tablename__ = "model_uses"
    __table_args__ = (Index("ix_model_uses_model_time", "model", "time_ms"),)
    id: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    model: Mapped[str]
    kind: Mapped[str]
    principal: Mapped[str]
    team: Mapped[str]
    time_ms: Mapped[int] = mapped_column(index=True)
    cost: Mapped[float]
    body: Mapped[str]


class DriftRow(Base):
    """What was found when a model's inputs and outputs were compared with its training window."""

    __tablename__ = "drift_reports"
    __table_args__ = (Index("ix_drift_reports_model_time", "model", "time_ms"),)
    id: Mapped[int] = mapped_column(_sequence, primary_key=True, autoincrement=True)
    model: Mapped[str]
    time_ms: Mapped[int]
    body: Mapped[str]


class ReportDeliveryRow(Base):
    __tablename__ = "report_deliveries"
    report: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    delivered_ms: Mapped[int]
