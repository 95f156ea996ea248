"""Silences by id."""

from __future__ import annotations

from sqlalchemy import delete, select, text

from aiops.core.errors import NotFound
from aiops.core.incident import Silence
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import SilenceRow

_NEXT = text(
    "INSERT INTO counters (name, value) VALUES ('silence', 1) "
    "ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value"
)


class SilenceRepository:
    """What people asked to be quiet, and until when."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def next_id(self) -> str:
        """``SIL-1``, ``SIL-2`` …; a number is never given twice."""
        with self._database.session() as session:
            return f"SIL-{session.scalar(_NEXT)}"

    def save(self, silence: Silence) -> None:
        """Insert or replace."""
        with self._database.session() as session:
            session.merge(SilenceRow(id=silence.id, ends_ms=silence.ends_ms, body=codec.dumps(silence)))

    def get(self, silence_id: str) -> Silence:
        """Raises ``NotFound``."""
        with self._database.reader() as session:
            body = session.scalar(select(SilenceRow.body).where(SilenceRow.id == silence_id))
        if body is None:
            raise NotFound(f"There is no silence '{silence_id}'.")
        return codec.loads(Silence, body)

    def ending_after(self, time_ms: int) -> tuple[Silence, ...]:
        """Those in force or still to come at ``time_ms``, the first to end first."""
        query = select(SilenceRow.body).where(SilenceRow.ends_ms > time_ms).order_by(SilenceRow.ends_ms, SilenceRow.id)
        with self._database.reader() as session:
            return tuple(codec.loads(Silence, body) for body in session.scalars(query))

    def forget_before(self, time_ms: int) -> int:
        """Delete those that ended before; the number deleted."""
        with self._database.session() as session:
            return int(session.execute(delete(SilenceRow).where(SilenceRow.ends_ms < time_ms)).rowcount)  # type: ignore[attr-defined]
