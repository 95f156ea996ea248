"""API keys, by digest only."""

from __future__ import annotations

import json

from sqlalchemy import func, select, update

from aiops.core.access import ApiKey
from aiops.core.errors import NotFound
from aiops.core.principal import Role
from aiops.core.series import Matcher
from aiops.store.state import codec
from aiops.store.state.database import StateDatabase
from aiops.store.state.tables import KeyRow


class KeyRepository:
    """Keys by their public id."""

    def __init__(self, database: StateDatabase) -> None:
        self._database = database

    def add(self, key: ApiKey) -> None:
        with self._database.session() as session:
            session.add(_row(key))

    def add_first(self, key: ApiKey) -> bool:
        """Add the key only if there is none at all; says whether it did."""
        with self._database.session() as session:
            if session.scalar(select(func.count()).select_from(KeyRow)):
                return False
            session.add(_row(key))
            return True

    def get(self, key_id: str) -> ApiKey | None:
        with self._database.reader() as session:
            row = session.get(KeyRow, key_id)
            return None if row is None else _key(row)

    def list(self) -> tuple[ApiKey, ...]:
        """All keys, revoked ones too, the oldest first."""
        with self._database.reader() as session:
            return tuple(_key(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created_ms, KeyRow.id)))

    def revoke(self, key_id: str, at_ms: int) -> None:
        """From now on the key is refused; revoking twice keeps the first time. Raises ``NotFound``."""
        with self._database.session() as session:
            if session.get(KeyRow, key_id) is None:
                raise NotFound(f"There is no key '{key_id}'.")
            session.execute(
                update(KeyRow).where(KeyRow.id == key_id, KeyRow.revoked_ms.is_(None)).values(revoked_ms=at_ms)
            )


def _row(key: ApiKey) -> KeyRow:
    return KeyRow(
        id=key.id,
        name=key.name,
        role=key.role.value,
        digest=key.digest,
        scope=codec.dumps(key.scope),
        created_ms=key.created_ms,
        expires_ms=key.expires_ms,
        revoked_ms=key.revoked_ms,
    )


def _key(row: KeyRow) -> ApiKey:
    scope = json.loads(row.scope)
    return ApiKey(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        digest=row.digest,
        created_ms=row.created_ms,
        scope=None if scope is None else codec.from_json(tuple[Matcher, ...], scope),
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
    )
