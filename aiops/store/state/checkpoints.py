"""Records of the fitted states kept under a model version."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import CheckpointRow

_VERSION = "version"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A fitted state on disk: of which version, where, its SHA-256 and what it was kept for.

    ``version`` is the version's reference, ``path`` relative to the data folder, ``id`` 0 before it is added.
    """

    model: str
    version: str
    created_ms: int
    path: str
    digest: str
    detail: tuple[tuple[str, str], ...] = ()
    id: int = 0


class CheckpointRepository:
    """Checkpoints by model, the newest first."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def add(self, checkpoint: Checkpoint, keep: int = 5) -> tuple[Checkpoint, tuple[Checkpoint, ...]]:
        """Add one and drop all but the newest ``keep`` of its model; returns it with its id, and the dropped."""
        detail = ((_VERSION, checkpoint.version), *checkpoint.detail)
        with self._database.session() as session:
            row = CheckpointRow(
                model=checkpoint.model,
                created_ms=checkpoint.created_ms,
                path=checkpoint.path,
                digest=checkpoint.digest,
                detail=codec.dumps(detail),
            )
            session.add(row)
            session.flush()
            query = select(CheckpointRow).where(CheckpointRow.model == checkpoint.model)
            old = session.scalars(query.order_by(CheckpointRow.id.desc()).offset(keep)).all()
            for gone in old:
                session.delete(gone)
            return _checkpoint(row), tuple(_checkpoint(gone) for gone in old)

    def of(self, model: str) -> tuple[Checkpoint, ...]:
        """The newest first."""
        query = select(CheckpointRow).where(CheckpointRow.model == model).order_by(CheckpointRow.id.desc())
        with self._database.reader() as session:
            return tuple(_checkpoint(row) for row in session.scalars(query))


def _checkpoint(row: CheckpointRow) -> Checkpoint:
    told = codec.loads(tuple[tuple[str, str], ...], row.detail)
    version = next((value for key, value in told if key == _VERSION), "")
    detail = tuple((key, value) for key, value in told if key != _VERSION)
    return Checkpoint(row.model, version, row.created_ms, row.path, row.digest, detail, row.id)
