"""What the detection loop must not forget: episodes, small documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, select

from aiops.core.anomaly import Anomaly
from aiops.core.ports import Clock, system_clock
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import AnomalyRow, DetectionStateRow


class DetectionRepository:
    """Anomaly episodes by id, documents by name."""

    def __init__(self, database: StateDatabase, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock

    def save_anomalies(self, anomalies: Sequence[Anomaly]) -> None:
        """Insert or replace episodes in one transaction."""
        if not anomalies:
            return
        with self._database.session() as session:
            for anomaly in anomalies:
                session.merge(
                    AnomalyRow(
                        id=anomaly.id,
                        started_ms=anomaly.started_ms,
                        ended_ms=anomaly.ended_ms,
                        body=codec.dumps(anomaly),
                    )
                )

    def open_anomalies(self) -> tuple[Anomaly, ...]:
        """Episodes that have not ended, the oldest first."""
        query = select(AnomalyRow.body).where(AnomalyRow.ended_ms.is_(None)).order_by(AnomalyRow.started_ms)
        with self._database.reader() as session:
            bodies = session.scalars(query).all()
        return tuple(codec.loads(Anomaly, body) for body in bodies)

    def anomalies(self, start_ms: int, end_ms: int, limit: int = 500) -> tuple[Anomaly, ...]:
        """Episodes that started in ``[start_ms, end_ms)``, the newest first."""
        query = (
            select(AnomalyRow.body)
            .where(AnomalyRow.started_ms >= start_ms, AnomalyRow.started_ms < end_ms)
            .order_by(AnomalyRow.started_ms.desc())
            .limit(limit)
        )
        with self._database.reader() as session:
            bodies = session.scalars(query).all()
        return tuple(codec.loads(Anomaly, body) for body in bodies)

    def anomaly(self, anomaly_id: str) -> Anomaly | None:
        with self._database.reader() as session:
            body = session.scalar(select(AnomalyRow.body).where(AnomalyRow.id == anomaly_id))
        return None if body is None else codec.loads(Anomaly, body)

    def save_documents(self, documents: Mapping[str, str]) -> None:
        """Insert or replace named texts in one transaction; an empty text deletes its name."""
        now_ms = self._clock()
        with self._database.session() as session:
            for name, body in documents.items():
                if body:
                    session.merge(DetectionStateRow(name=name, body=body, updated_ms=now_ms))
                else:
                    session.execute(delete(DetectionStateRow).where(DetectionStateRow.name == name))

    def document(self, name: str) -> str:
        """The text of that name, or an empty string."""
        with self._database.reader() as session:
            return session.scalar(select(DetectionStateRow.body).where(DetectionStateRow.name == name)) or ""
