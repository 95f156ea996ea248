"""Records of the snapshots that models were trained on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from aiops.core.model import Dataset
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import DatasetRow


class DatasetRepository:
    """Snapshots by id and by name."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def save(self, dataset: Dataset) -> None:
        """Insert, or replace the record of the same content."""
        with self._database.session() as session:
            session.merge(DatasetRow(id=dataset.id, created_ms=dataset.created_ms, body=codec.dumps(dataset)))

    def get(self, dataset_id: str) -> Dataset | None:
        with self._database.reader() as session:
            body = session.scalar(select(DatasetRow.body).where(DatasetRow.id == dataset_id))
        return None if body is None else codec.loads(Dataset, body)

    def of(self, name: str = "") -> tuple[Dataset, ...]:
        """Snapshots of that name, or all, the newest first."""
        query = select(DatasetRow.body).order_by(DatasetRow.created_ms.desc(), DatasetRow.id)
        with self._database.reader() as session:
            found = [codec.loads(Dataset, body) for body in session.scalars(query)]
        return tuple(one for one in found if not name or one.name == name)

    def delete(self, ids: Sequence[str]) -> None:
        with self._database.session() as session:
            session.execute(delete(DatasetRow).where(DatasetRow.id.in_(list(ids))))
