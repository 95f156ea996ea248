"""Checks of models for drift, as they were made."""

from __future__ import annotations

from sqlalchemy import delete, select

from aiops.core.model import DriftReport
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import DriftRow


class DriftRepository:
    """Reports by model and time."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def add(self, report: DriftReport) -> None:
        with self._database.session() as session:
            session.add(DriftRow(model=report.model, time_ms=report.time_ms, body=codec.dumps(report)))

    def list(self, model: str, limit: int = 100) -> tuple[DriftReport, ...]:
        """The newest first."""
        rows = select(DriftRow.body).where(DriftRow.model == model)
        query = rows.order_by(DriftRow.time_ms.desc(), DriftRow.id.desc()).limit(limit)
        with self._database.reader() as session:
            return tuple(codec.loads(DriftReport, body) for body in session.scalars(query))

    def forget(self, before_ms: int) -> None:
        """Delete the reports made before."""
        with self._database.session() as session:
            session.execute(delete(DriftRow).where(DriftRow.time_ms < before_ms))
