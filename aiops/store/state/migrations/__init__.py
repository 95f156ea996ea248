"""Alembic migrations of the state store, run by ``StateDatabase.upgrade``."""
