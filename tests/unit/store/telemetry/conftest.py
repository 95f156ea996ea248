from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiops.settings import StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_790_000_000_000


class Hands:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def opened(tmp_path: Path, clock: Hands) -> Iterator[Callable[..., TelemetryStore]]:
    stores: list[TelemetryStore] = []

    def build(cost_scope_columns: dict[str, str] | None = None, **settings: object) -> TelemetryStore:
        for earlier in stores:
            earlier.close()
        database = TelemetryDatabase(tmp_path / "telemetry.duckdb", StoreSettings(**settings), clock)
        stores.append(TelemetryStore(database, cost_scope_columns))
        return stores[-1]

    yield build
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[..., TelemetryStore]) -> TelemetryStore:
    return opened()
