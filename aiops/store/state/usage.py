"""What LLM calls cost, per subject and UTC day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select, text

from aiops.core.ports import Clock, system_clock
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import UsageRow

_ADD = text(
    "INSERT INTO llm_usage (subject, day, cost, calls) VALUES (:subject, :day, :cost, 1) "
    "ON CONFLICT (subject, day) DO UPDATE SET cost = llm_usage.cost + excluded.cost, calls = llm_usage.calls + 1"
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Spend of one subject on one UTC day (``YYYY-MM-DD``), USD."""

    subject: str
    day: str
    cost: float
    calls: int


class UsageRepository:
    """Implements ``core.ports.UsageLedger``."""

    def __init__(self, database: StateDatabase, clock: Clock = system_clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, subject: str, cost: float, details: Mapping[str, str] | None = None) -> None:  # noqa: ARG002
        """Add the cost (USD) of one call to the subject's present day."""
        with self._database.session() as session:
            session.execute(_ADD, {"subject": subject, "day": self.today(), "cost": cost})

    def spent(self, subject: str = "", day: str = "") -> Usage:
        """Spend of a subject, or of all, on a day, by default today."""
        day = day or self.today()
        query = select(func.sum(UsageRow.cost), func.sum(UsageRow.calls)).where(UsageRow.day == day)
        if subject:
            query = query.where(UsageRow.subject == subject)
        with self._database.reader() as session:
            cost, calls = session.execute(query).one()
        return Usage(subject, day, float(cost or 0.0), int(calls or 0))

    def list(self, since_day: str = "") -> tuple[Usage, ...]:
        """By day and subject, oldest first."""
        query = select(UsageRow).where(UsageRow.day >= since_day).order_by(UsageRow.day, UsageRow.subject)
        with self._database.reader() as session:
            return tuple(Usage(r.subject, r.day, r.cost, r.calls) for r in session.scalars(query))

    def today(self) -> str:
        """The UTC day of the clock."""
        return datetime.fromtimestamp(self._clock() / 1000, UTC).date().isoformat()
