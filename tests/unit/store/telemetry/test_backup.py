"""The file copied while it is written: what the copy holds, and damage that a check finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aiops.core.errors import Conflict, InvalidInput
from aiops.core.principal import LOCAL
from aiops.settings import StoreSettings
from aiops.store.backup import back_up, restore, verify
from aiops.store.telemetry.backup import verify_telemetry
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore
from tests.unit.store.telemetry.conftest import NOW, Hands
from tests.unit.store.telemetry.test_retention import put

DAY_MS = 86_400_000
Opened = Callable[..., TelemetryStore]


def held(path: Path, clock: Hands) -> int:
    store = TelemetryStore(TelemetryDatabase(path, StoreSettings(), clock))
    try:
        return store.scan((), 0, 1 << 60, LOCAL).sample_count
    finally:
        store.close()


def test_writes_and_drops_during_the_copy_do_not_reach_it(opened: Opened, clock: Hands, tmp_path: Path) -> None:
    store = opened(retention_days=5)
    for age in (4, 1):
        clock.now = NOW - age * DAY_MS
        put(store, clock.now, series=50, samples=2000)
    store.flush()
    source = store.database.path
    assert source is not None
    before = store.scan((), 0, 1 << 60, LOCAL).sample_count
    copies = [tmp_path / "first.duckdb", tmp_path / "last.duckdb"]
    with store.database.checkpoints_held():
        shutil.copyfile(source, copies[0])
        for step in range(6):
            clock.now = NOW + step * DAY_MS
            put(store, clock.now, series=50, samples=2000)
            store.flush()
            store.apply_retention()
            store.database.checkpoint()
        shutil.copyfile(source, copies[1])
    clock.now = NOW
    assert [held(path, clock) for path in copies] == [before, before], "both are the moment of the hold"


def test_a_backup_is_checked_and_restored(opened: Opened, clock: Hands, tmp_path: Path) -> None:
    store = opened()
    put(store, NOW, series=10, samples=100)
    target = tmp_path / "out" / "monday"
    data = tmp_path / "data"
    data.mkdir()
    done = back_up(data, store, None, target, NOW)
    assert done.files == 1
    assert done.rows["changes"] == 1
    settings = StoreSettings()

    def check() -> int:
        return sum(1 for _ in verify(target, lambda path: verify_telemetry(path, settings)))

    assert check() == 1
    with pytest.raises(Conflict, match="exists"):
        back_up(data, store, None, target, NOW)
    with pytest.raises(Conflict, match="data folder itself"):
        back_up(data, store, None, data / "backup", NOW)
    restore(target, tmp_path / "new")
    assert held(tmp_path / "new" / "telemetry.duckdb", clock) == 1000
    with pytest.raises(Conflict, match="not empty"):
        restore(target, tmp_path / "new")
    file = target / "telemetry.duckdb"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match="damaged or was changed"):
        check()
    with pytest.raises(InvalidInput, match="damaged or was changed"):
        restore(target, tmp_path / "other")


def test_a_damaged_original_gives_no_backup(opened: Opened, clock: Hands, tmp_path: Path) -> None:
    """The copy is read back before it gets its name."""
    store = opened()
    put(store, NOW - 2 * DAY_MS, series=50, samples=2000)
    store.flush()
    store.close()
    path = tmp_path / "telemetry.duckdb"
    content = bytearray(path.read_bytes())
    size = len(content)
    found = None
    for place in range(size - 300_000, 12_288, -262_144):
        damaged = tmp_path / "damaged.duckdb"
        damaged.write_bytes(content[:place] + bytes(4096) + content[place + 4096 :])
        try:
            verify_telemetry(damaged, StoreSettings())
        except InvalidInput as error:
            found = str(error)
            break
    assert found is not None
    assert "damaged" in found or "cannot be opened" in found
