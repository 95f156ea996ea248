"""What LLM calls cost, per subject and UTC day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select

from aiops.core.ports import Clock, system_clock
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import UsageRow


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
        key = (subject, self.today())
        with self._database.session() as session:
            row = session.get(UsageRow, key, with_for_update=True)
            if row is None:
                row = UsageRow(subject=subject, day=key[1], cost=0.0, calls=0)
                session.add(row)
            row.cost += cost
            row.calls += 1

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
