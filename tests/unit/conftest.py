from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiops.store.state.database import StateDatabase, sqlite_url


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state database with all tables and no rows, closed."""
    folder = tmp_path_factory.mktemp("state")
    state = StateDatabase(sqlite_url(folder))
    state.upgrade()
    state.close()
    return folder / "state.db"


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Iterator[StateDatabase]:
    """An empty state database, ``state.db`` in ``tmp_path``."""
    shutil.copy(migrated, tmp_path / "state.db")
    state = StateDatabase(sqlite_url(tmp_path))
    yield state
    state.close()
