"""Which scheduled report went where, so that a repeated job does not send it twice."""

from __future__ import annotations

from sqlalchemy import exists, select

from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import ReportDeliveryRow


class ReportRepository:
    """Deliveries by report name, period (any text that names the run) and target."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def delivered(self, report: str, period: str, target: str, at_ms: int) -> None:
        with self._database.session() as session:
            session.merge(ReportDeliveryRow(report=report, period=period, target=target, delivered_ms=at_ms))

    def was_delivered(self, report: str, period: str, target: str) -> bool:
        query = select(
            exists().where(
                ReportDeliveryRow.report == report,
                ReportDeliveryRow.period == period,
                ReportDeliveryRow.target == target,
            )
        )
        with self._database.reader() as session:
            return bool(session.scalar(query))
