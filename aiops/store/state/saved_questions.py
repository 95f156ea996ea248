"""Questions kept by name."""

from __future__ import annotations

from sqlalchemy import delete, select

from aiops.core.conversation import SavedQuestion
from aiops.core.errors import NotFound
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import SavedQuestionRow


class SavedQuestionRepository:
    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def save(self, question: SavedQuestion) -> None:
        """Insert or replace."""
        with self._database.session() as session:
            session.merge(SavedQuestionRow(name=question.name, body=codec.dumps(question)))

    def get(self, name: str) -> SavedQuestion:
        """Raises ``NotFound``."""
        with self._database.reader() as session:
            body = session.scalar(select(SavedQuestionRow.body).where(SavedQuestionRow.name == name))
        if body is None:
            raise NotFound(f"There is no saved question '{name}'.")
        return codec.loads(SavedQuestion, body)

    def list(self) -> tuple[SavedQuestion, ...]:
        """By name."""
        with self._database.reader() as session:
            bodies = session.scalars(select(SavedQuestionRow.body).order_by(SavedQuestionRow.name)).all()
        return tuple(codec.loads(SavedQuestion, body) for body in bodies)

    def delete(self, name: str) -> None:
        """Raises ``NotFound``."""
        with self._database.session() as session:
            gone = session.execute(delete(SavedQuestionRow).where(SavedQuestionRow.name == name))
            if not gone.rowcount:  # type: ignore[attr-defined]
                raise NotFound(f"There is no saved question '{name}'.")
