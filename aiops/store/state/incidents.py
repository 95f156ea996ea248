"""Incidents and their notifications, written together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Select, delete, func, select, text
from sqlalchemy.orm import Session

from aiops.core.incident import (
    DeliveryStatus,
    Incident,
    IncidentSignal,
    IncidentStatus,
    Notification,
    TimelineEntry,
)
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import IncidentAlertRow, IncidentRow, OutboxRow

FORMS = 20_000
"""Signals and timeline entries of which the stored form is kept; each entry holds its object, so ids stay theirs."""
ACTIVE = (IncidentStatus.OPEN.value, IncidentStatus.ACKNOWLEDGED.value)

# One statement, so that two services never get the same number; both databases know this form.
_NEXT = text(
    "INSERT INTO counters (name, value) VALUES (:name, 1) "
    "ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value"
)


class IncidentRepository:
    """Incidents by id, status and alert fingerprint."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database
        self._forms: dict[int, tuple[object, object]] = {}

    def save(self, incident: Incident, notifications: Sequence[Notification] = ()) -> None:
        """Insert or replace an incident and queue what receivers are told of it, in one transaction.

        A notification whose id is already queued is skipped.
        """
        with self._database.session() as session:
            self._put(session, incident)
            session.flush()
            queue(session, notifications)

    def save_all(self, incidents: Sequence[Incident], notifications: Sequence[Notification] = ()) -> None:
        """As :meth:`save` for several incidents (a merge) in one transaction."""
        with self._database.session() as session:
            for incident in incidents:
                self._put(session, incident)
            session.flush()
            queue(session, notifications)

    def get(self, incident_id: str) -> Incident | None:
        with self._database.reader() as session:
            body = session.scalar(select(IncidentRow.body).where(IncidentRow.id == incident_id))
        return None if body is None else codec.loads(Incident, body)

    def list(
        self, status: IncidentStatus | None = None, limit: int = 100, since: int | None = None
    ) -> tuple[Incident, ...]:
        """The most recently updated first; ``since`` keeps those updated at or after it (ms)."""
        query = select(IncidentRow.body).order_by(IncidentRow.updated_ms.desc(), IncidentRow.opened_ms.desc())
        if status is not None:
            query = query.where(IncidentRow.status == status.value)
        if since is not None:
            query = query.where(IncidentRow.updated_ms >= since)
        return self._load(query.limit(limit))

    def active(self) -> tuple[Incident, ...]:
        """All open and acknowledged incidents, the oldest first."""
        return self._load(
            select(IncidentRow.body)
            .where(IncidentRow.status.in_(ACTIVE))
            .order_by(IncidentRow.opened_ms, IncidentRow.id)
        )

    def find_by_fingerprint(self, fingerprint: str) -> Incident | None:
        """The incident opened last among those that hold the alert; merged ones only if no other does."""
        query = (
            select(IncidentRow.body)
            .join(IncidentAlertRow, IncidentAlertRow.incident_id == IncidentRow.id)
            .where(IncidentAlertRow.fingerprint == fingerprint)
            .order_by(IncidentRow.status == IncidentStatus.MERGED.value, IncidentRow.opened_ms.desc())
            .limit(1)
        )
        found = self._load(query)
        return found[0] if found else None

    def next_id(self) -> str:
        """``INC-1``, ``INC-2`` …; a number is never given twice."""
        with self._database.session() as session:
            return f"INC-{session.scalar(_NEXT, {'name': 'incident'})}"

    def counts(self) -> dict[str, int]:
        """Number of incidents by status word."""
        with self._database.reader() as session:
            rows = session.execute(select(IncidentRow.status, func.count()).group_by(IncidentRow.status)).all()
        return {str(status): int(count) for status, count in rows}

    def _load(self, query: Select[str]) -> tuple[Incident, ...]:
        with self._database.reader() as session:
            bodies = session.scalars(query).all()
        return tuple(codec.loads(Incident, body) for body in bodies)

    def _put(self, session: Session, incident: Incident) -> None:
        session.merge(
            IncidentRow(
                id=incident.id,
                status=incident.status.value,
                opened_ms=incident.opened_ms,
                updated_ms=incident.updated_ms,
                body=self._body(incident),
            )
        )
        session.flush()
        known = select(IncidentAlertRow.fingerprint).where(IncidentAlertRow.incident_id == incident.id)
        before, after = set(session.scalars(known)), {signal.alert.fingerprint for signal in incident.signals}
        if gone := before - after:
            ours = IncidentAlertRow.incident_id == incident.id
            session.execute(delete(IncidentAlertRow).where(ours, IncidentAlertRow.fingerprint.in_(gone)))
        session.add_all(IncidentAlertRow(fingerprint=f, incident_id=incident.id) for f in sorted(after - before))

    def _body(self, incident: Incident) -> str:
        """As :func:`codec.dumps`; signals and timeline entries, which stay as they are, are put in form only once."""
        plain = codec.to_json(replace(incident, signals=(), timeline=()))
        plain["signals"] = [self._form(signal) for signal in incident.signals]
        plain["timeline"] = [self._form(entry) for entry in incident.timeline]
        return codec.text_of(plain)

    def _form(self, part: IncidentSignal | TimelineEntry) -> object:
        kept = self._forms.get(id(part))
        if kept is None or kept[0] is not part:
            if len(self._forms) >= FORMS:
                self._forms.clear()
            kept = self._forms[id(part)] = (part, codec.to_json(part))
        return kept[1]


def queue(session: Session, notifications: Sequence[Notification]) -> None:
    """Add outbox rows within an open transaction; ids that exist are skipped."""
    known = set(session.scalars(select(OutboxRow.id).where(OutboxRow.id.in_([n.id for n in notifications]))))
    for notification in notifications:
        if notification.id in known:
            continue
        known.add(notification.id)
        session.add(
            OutboxRow(
                id=notification.id,
                receiver=notification.receiver,
                dedup_key=notification.dedup_key,
                event=notification.event.value,
                status=DeliveryStatus.PENDING.value,
                attempts=0,
                next_attempt_ms=notification.created_ms,
                lease_until_ms=0,
                created_ms=notification.created_ms,
                delivered_ms=None,
                last_error="",
                thread="",
                body=codec.dumps(notification),
            )
        )
