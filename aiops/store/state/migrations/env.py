"""Alembic environment: migrates over the connection that ``StateDatabase.upgrade`` opened."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from aiops.store.state.tables import Base

VERSION_TABLE = "aiops_alembic_version"
"""MLflow keeps an ``alembic_version`` of its own, which may share a PostgreSQL server with us."""


def run() -> None:
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,
        render_as_batch=True,
    )
    context.run_migrations()


run()
