from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aiops.store.state.database import StateDatabase, sqlite_url

NOW = 1_760_000_000_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[StateDatabase]:
    state = StateDatabase(sqlite_url(tmp_path))
    state.upgrade()
    yield state
    state.close()
