"""What jobs and calls of models cost: a row a job or LLM call, and a row an hour of scoring."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update

from aiops.core.model import ModelUse, UseKind
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import ModelUseRow


@dataclass(frozen=True, slots=True)
class Spent:
    """Sum of what one model cost for one kind of use by one team, USD."""

    model: str
    kind: UseKind
    team: str
    cost: float


class ModelUseRepository:
    """The one ledger of the model layer."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def add(self, uses: Sequence[ModelUse]) -> list[int]:
        """Write new rows; returns their ids."""
        with self._database.session() as session:
            rows = [_row(use) for use in uses]
            session.add_all(rows)
            session.flush()
            return [row.id for row in rows]

    def replace(self, uses: Mapping[int, ModelUse]) -> None:
        """Write rows anew that this process had added, with what has come to them since."""
        with self._database.session() as session:
            for number, use in uses.items():
                values = {"cost": use.cost, "body": codec.dumps(use)}
                session.execute(update(ModelUseRow).where(ModelUseRow.id == number).values(**values))

    def spent(self, start_ms: int, end_ms: int) -> tuple[Spent, ...]:
        """Sums over the half-open window."""
        query = (
            select(ModelUseRow.model, ModelUseRow.kind, ModelUseRow.team, func.sum(ModelUseRow.cost))
            .where(ModelUseRow.time_ms >= start_ms, ModelUseRow.time_ms < end_ms)
            .group_by(ModelUseRow.model, ModelUseRow.kind, ModelUseRow.team)
        )
        with self._database.reader() as session:
            return tuple(Spent(m, UseKind(k), t, float(cost or 0.0)) for m, k, t, cost in session.execute(query))

    def list(self, start_ms: int, end_ms: int, model: str = "") -> tuple[ModelUse, ...]:
        """Uses of the half-open window, of all models or one, oldest first."""
        query = select(ModelUseRow.body).where(ModelUseRow.time_ms >= start_ms, ModelUseRow.time_ms < end_ms)
        if model:
            query = query.where(ModelUseRow.model == model)
        with self._database.reader() as session:
            found = session.scalars(query.order_by(ModelUseRow.time_ms, ModelUseRow.id))
            return tuple(codec.loads(ModelUse, body) for body in found)


def _row(use: ModelUse) -> ModelUseRow:
    return ModelUseRow(
        model=use.model,
        kind=use.kind.value,
        principal=use.principal,
        team=use.team,
        time_ms=use.time_ms,
        cost=use.cost,
        body=codec.dumps(use),
    )


def merged(first: ModelUse, more: ModelUse) -> ModelUse:
    """Both as one use at the time of the first; whole numbers in their details are added."""
    detail = dict(first.detail)
    for key, value in more.detail:
        before = detail.get(key, "0")
        detail[key] = str(int(before) + int(value)) if value.isdecimal() and before.isdecimal() else value
    return dataclasses.replace(
        first,
        quantity=first.quantity + more.quantity,
        cost=first.cost + more.cost,
        detail=tuple(sorted(detail.items())),
    )
