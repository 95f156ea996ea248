"""The audit trail: append-only and hash-chained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from sqlalchemy import func, select, text

from aiops.core.audit import AuditEntry
from aiops.core.ports import Clock, system_clock
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import AuditRow

FIRST_HASH = "0" * 64
CHAIN_LOCK = 7_420_002


class AuditLog:
    """Who did what. Rows are only ever added; :meth:`verify` finds the first that was tampered with.

    Rows cut off the end leave a valid shorter chain: keep :meth:`head` somewhere else to notice that.
    """

    def __init__(self, database: StateDatabase, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock

    def append(self, actor: str, action: str, subject: str, detail: Mapping[str, str] | None = None) -> AuditEntry:
        """Add one row, committed and synced on return. Never put secrets into ``detail``."""
        pairs = tuple(sorted((_safe(k), _safe(v)) for k, v in (detail or {}).items()))
        actor, action, subject = _safe(actor), _safe(action), _safe(subject)
        with self._database.session() as session:
            if self._database.dialect == "postgresql":
                session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": CHAIN_LOCK})
            last = session.execute(
                select(AuditRow.sequence, AuditRow.hash).order_by(AuditRow.sequence.desc()).limit(1)
            ).one_or_none()
            sequence, previous = (last[0] + 1, last[1]) if last else (1, FIRST_HASH)
            now_ms = self._clock()
            digest = _hash(previous, sequence, now_ms, actor, action, subject, pairs)
            session.add(
                AuditRow(
                    sequence=sequence,
                    time_ms=now_ms,
                    actor=actor,
                    action=action,
                    subject=subject,
                    detail=json.dumps(pairs, separators=(",", ":")),
                    previous_hash=previous,
                    hash=digest,
                )
            )
        return AuditEntry(sequence, now_ms, actor, action, subject, pairs, previous, digest)

    def list(
        self, limit: int = 100, before: int | None = None, actor: str = "", action: str = "", subject: str = ""
    ) -> tuple[AuditEntry, ...]:
        """The newest first; ``before`` is a sequence number, for paging."""
        query = select(AuditRow).order_by(AuditRow.sequence.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.sequence < before)
        for column, value in ((AuditRow.actor, actor), (AuditRow.action, action), (AuditRow.subject, subject)):
            if value:
                query = query.where(column == value)
        with self._database.reader() as session:
            return tuple(_entry(row) for row in session.scalars(query))

    def head(self) -> tuple[int, str]:
        """Sequence and hash of the newest row; ``(0, "00…")`` when empty."""
        newest = self.list(limit=1)
        return (newest[0].sequence, newest[0].hash) if newest else (0, FIRST_HASH)

    def verify(self) -> AuditEntry | None:
        """Walk the whole chain; the first row that does not fit, or ``None``."""
        with self._database.reader() as session:
            rows = session.scalars(select(AuditRow).order_by(AuditRow.sequence).execution_options(yield_per=1000))
            return first_broken(map(_entry, rows))

    def count(self) -> int:
        with self._database.reader() as session:
            return int(session.scalar(select(func.count()).select_from(AuditRow)) or 0)


def first_broken(entries: Iterable[AuditEntry]) -> AuditEntry | None:
    """The first entry of a whole chain, in order, whose number, link or hash is wrong."""
    previous = FIRST_HASH
    for number, entry in enumerate(entries, start=1):
        expected = _hash(previous, number, entry.time_ms, entry.actor, entry.action, entry.subject, entry.detail)
        if entry.sequence != number or entry.previous_hash != previous or entry.hash != expected:
            return entry
        previous = entry.hash
    return None


def _safe(value: str) -> str:
    """What any text column gives back unchanged, so that the hash can be computed again."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _hash(
    previous: str,
    sequence: int,
    time_ms: int,
    actor: str,
    action: str,
    subject: str,
    detail: tuple[tuple[str, str], ...],
) -> str:
    body = json.dumps(
        {"sequence": sequence, "time": time_ms, "actor": actor, "action": action, "subject": subject, "detail": detail},
        sort_keys=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(f"{previous}{body}".encode("ascii")).hexdigest()


def _entry(row: AuditRow) -> AuditEntry:
    try:
        detail = tuple((str(k), str(v)) for k, v in json.loads(row.detail))
    except (ValueError, TypeError):
        detail = (("unreadable", row.detail),)
    return AuditEntry(
        row.sequence, row.time_ms, row.actor, row.action, row.subject, detail, row.previous_hash, row.hash
    )
