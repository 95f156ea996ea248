"""Notifications waiting to be delivered: claimed with a lease, retried, kept as dead letters."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import ColumnElement, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from aiops.core.errors import NotFound
from aiops.core.incident import Delivery, DeliveryStatus, Notification
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.incidents import queue
from aiops.store.state.tables import OutboxRow

PENDING = DeliveryStatus.PENDING.value
DELIVERED = DeliveryStatus.DELIVERED.value
DEAD = DeliveryStatus.DEAD.value


class OutboxRepository:
    """The outbox.

    Args:
        lease_ms: how long a claimed row is left to its claimer. A service that dies while it delivers
            sends that row again after the lease, or at once after :meth:`release`.
    """

    def __init__(self, database: StateDatabase, lease_ms: int = 60_000) -> None:
        self._database = database
        self._lease_ms = lease_ms

    def add(self, notification: Notification) -> None:
        """Queue a notification that belongs to no state change, such as a test message."""
        with self._database.session() as session:
            queue(session, [notification])

    def due(self, now_ms: int, limit: int = 20) -> tuple[Delivery, ...]:
        """Claim what may be sent now, the oldest first.

        A receiver hears of one incident in order: a row waits while an earlier one of its receiver and
        ``dedup_key`` is pending. The notification's ``thread`` is filled in from earlier deliveries.
        """
        earlier = aliased(OutboxRow)
        blocked = exists().where(
            earlier.receiver == OutboxRow.receiver,
            earlier.dedup_key == OutboxRow.dedup_key,
            earlier.status == PENDING,
            earlier.sequence < OutboxRow.sequence,
        )
        ready = (
            OutboxRow.status == PENDING,
            OutboxRow.next_attempt_ms <= now_ms,
            OutboxRow.lease_until_ms <= now_ms,
            ~blocked,
        )
        with self._database.reader() as session:
            # Polling takes the write lock only when there is something to claim.
            if not session.scalar(select(exists(select(OutboxRow.id).where(*ready)))):
                return ()
        query = (
            select(OutboxRow)
            .where(*ready)
            .order_by(OutboxRow.sequence)
            .limit(limit)
            .with_for_update(skip_locked=True, of=OutboxRow)
        )
        with self._database.session() as session:
            rows = session.scalars(query).all()
            for row in rows:
                row.lease_until_ms = now_ms + self._lease_ms
                row.attempts += 1
            return tuple(_delivery(row, _thread_of(session, row.receiver, row.dedup_key)) for row in rows)

    def delivered(self, notification_id: str, thread: str, now_ms: int) -> None:
        """Book a delivery; ``thread`` is the receiver's reference for follow-ups, or empty."""
        self._set(
            notification_id, status=DELIVERED, thread=thread, delivered_ms=now_ms, lease_until_ms=0, last_error=""
        )

    def failed(self, notification_id: str, error: str, next_attempt_ms: int) -> None:
        """Try again at ``next_attempt_ms``."""
        self._set(notification_id, last_error=error, next_attempt_ms=next_attempt_ms, lease_until_ms=0)

    def postponed(self, notification_id: str, error: str, next_attempt_ms: int) -> None:
        """Claimed and not tried: again at ``next_attempt_ms``, and it was no attempt."""
        self._set(
            notification_id, last_error=error, next_attempt_ms=next_attempt_ms, lease_until_ms=0,
            attempts=OutboxRow.attempts - 1,
        )  # fmt: skip

    def dead(self, notification_id: str, error: str) -> None:
        """Give up; the row stays visible and can be sent again by a person."""
        self._set(notification_id, status=DEAD, last_error=error, lease_until_ms=0)

    def resend(self, notification_id: str, now_ms: int = 0) -> Delivery:
        """Put a dead letter back in the queue with a fresh count of attempts. Raises ``NotFound``."""
        with self._database.session() as session:
            changed = session.execute(
                update(OutboxRow)
                .where(OutboxRow.id == notification_id, OutboxRow.status == DEAD)
                .values(status=PENDING, attempts=0, next_attempt_ms=now_ms, lease_until_ms=0)
            )
            if changed.rowcount != 1:  # type: ignore[attr-defined]
                raise NotFound(f"There is no dead letter '{notification_id}'.")
            row = session.scalars(select(OutboxRow).where(OutboxRow.id == notification_id)).one()
            return _delivery(row, row.thread)

    def release(self) -> int:
        """Drop all leases; called once at start, when no other service delivers from this database."""
        with self._database.session() as session:
            changed = session.execute(
                update(OutboxRow)
                .where(OutboxRow.status == PENDING, OutboxRow.lease_until_ms > 0)
                .values(lease_until_ms=0)
            )
            return int(changed.rowcount)  # type: ignore[attr-defined]

    def get(self, notification_id: str) -> Delivery | None:
        with self._database.reader() as session:
            row = session.scalars(select(OutboxRow).where(OutboxRow.id == notification_id)).one_or_none()
            return None if row is None else _delivery(row, row.thread)

    def list(self, status: DeliveryStatus | None = None, limit: int = 200) -> tuple[Delivery, ...]:
        """The newest first."""
        query = select(OutboxRow).order_by(OutboxRow.sequence.desc()).limit(limit)
        if status is not None:
            query = query.where(OutboxRow.status == status.value)
        with self._database.reader() as session:
            return tuple(_delivery(row, row.thread) for row in session.scalars(query))

    def counts(self) -> dict[str, int]:
        """Number of rows by status word."""
        with self._database.reader() as session:
            rows = session.execute(select(OutboxRow.status, func.count()).group_by(OutboxRow.status)).all()
        return {str(status): int(count) for status, count in rows}

    def next_attempt_ms(self) -> int | None:
        """When the next pending row falls due, or ``None`` with nothing pending."""
        with self._database.reader() as session:
            return session.scalar(select(func.min(OutboxRow.next_attempt_ms)).where(OutboxRow.status == PENDING))

    def thread_of(self, receiver: str, dedup_key: str) -> str:
        """The thread that the receiver's first message opened, or an empty string."""
        with self._database.reader() as session:
            return _thread_of(session, receiver, dedup_key)

    def _set(self, notification_id: str, **values: str | int | ColumnElement[int]) -> None:
        with self._database.session() as session:
            changed = session.execute(update(OutboxRow).where(OutboxRow.id == notification_id).values(**values))
            if changed.rowcount != 1:  # type: ignore[attr-defined]
                raise NotFound(f"There is no notification '{notification_id}'.")


def _thread_of(session: Session, receiver: str, dedup_key: str) -> str:
    query = (
        select(OutboxRow.thread)
        .where(OutboxRow.receiver == receiver, OutboxRow.dedup_key == dedup_key, OutboxRow.thread != "")
        .order_by(OutboxRow.sequence)
        .limit(1)
    )
    return session.scalar(query) or ""


def _delivery(row: OutboxRow, thread: str) -> Delivery:
    notification = codec.loads(Notification, row.body)
    return Delivery(
        replace(notification, thread=thread or notification.thread),
        DeliveryStatus(row.status),
        row.attempts,
        row.next_attempt_ms,
        row.last_error,
        row.delivered_ms,
    )
