"""People's judgements of anomalies, kept as labels."""

from __future__ import annotations

from sqlalchemy import delete, select

from aiops.core.anomaly import Mark
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import MarkRow


class MarkRepository:
    """Marks by anomaly and by time."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def save(self, mark: Mark) -> None:
        """Add a mark; the same person's earlier one of the same anomaly is replaced."""
        with self._database.session() as session:
            if mark.anomaly_id:
                mine = (MarkRow.anomaly_id == mark.anomaly_id) & (MarkRow.principal == mark.principal)
                session.execute(delete(MarkRow).where(mine))
            session.add(
                MarkRow(
                    anomaly_id=mark.anomaly_id, principal=mark.principal, time_ms=mark.time_ms, body=codec.dumps(mark)
                )
            )

    def of(self, anomaly_id: str) -> tuple[Mark, ...]:
        """What people said of one anomaly, the oldest first."""
        query = select(MarkRow.body).where(MarkRow.anomaly_id == anomaly_id).order_by(MarkRow.time_ms, MarkRow.id)
        with self._database.reader() as session:
            return tuple(codec.loads(Mark, body) for body in session.scalars(query))

    def since(self, time_ms: int) -> tuple[Mark, ...]:
        """All marks made at or after, the oldest first."""
        query = select(MarkRow.body).where(MarkRow.time_ms >= time_ms).order_by(MarkRow.time_ms, MarkRow.id)
        with self._database.reader() as session:
            return tuple(codec.loads(Mark, body) for body in session.scalars(query))
