from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aiops.core.ports import Collected
from aiops.core.series import SampleBlock, labels_of
from aiops.incidents.fill_watch import EVERY_MS, FillWatch
from aiops.promql.engine import PromqlEngine
from aiops.promql.parse import inject_matchers
from aiops.settings import PromqlSettings, StoreSettings
from aiops.store.telemetry.database import TelemetryDatabase
from aiops.store.telemetry.store import TelemetryStore

NOW = 1_795_500_000_000 // 300_000 * 300_000
STEP = 300_000
SIZE = 100e9


@pytest.fixture
def store(tmp_path: Path) -> TelemetryStore:
    del tmp_path
    return TelemetryStore(TelemetryDatabase(None, StoreSettings(), lambda: NOW + 86_400_000))


def write(store: TelemetryStore, free: np.ndarray, end_ms: int, mount: str = "/var") -> None:
    ts = end_ms - STEP * np.arange(len(free) - 1, -1, -1, dtype=np.int64)
    rows = [
        (labels_of({"__name__": name, "instance": "db-1", "mountpoint": mount, "fstype": "ext4"}), ts, values)
        for name, values in (
            ("node_filesystem_avail_bytes", free),
            ("node_filesystem_size_bytes", np.full(len(free), SIZE)),
        )
    ]
    store.append(Collected(SampleBlock.build(rows)))


def test_a_warning_begins_is_kept_up_and_ends_once_the_disk_is_cleared(store: TelemetryStore) -> None:
    engine = PromqlEngine(store, PromqlSettings(), lambda: NOW)
    write(store, np.linspace(0.8, 0.2, 288) * SIZE, NOW)
    write(store, np.full(288, 0.5 * SIZE), NOW, "/home")
    watch = FillWatch(engine, inject_matchers)
    (first,) = watch.look(NOW)
    assert first.metric == "disk /var"
    assert first.service == "db-1"
    assert first.note.startswith("will be full in 8 h (")
    assert 'mountpoint="/var"' in first.query
    assert watch.look(NOW + STEP) == []
    write(store, np.linspace(0.2, 0.16, 4)[1:] * SIZE, NOW + EVERY_MS)
    (again,) = watch.look(NOW + EVERY_MS)
    assert again.id == first.id
    write(store, np.full(100, 0.9 * SIZE), NOW + EVERY_MS + 100 * STEP)
    (over,) = watch.look(NOW + EVERY_MS + 100 * STEP)
    assert (over.id, over.ended_ms) == (first.id, NOW + EVERY_MS + 100 * STEP)


def test_a_restart_goes_on_with_the_open_warning(store: TelemetryStore) -> None:
    engine = PromqlEngine(store, PromqlSettings(), lambda: NOW)
    write(store, np.linspace(0.8, 0.2, 288) * SIZE, NOW)
    (first,) = FillWatch(engine).look(NOW)
    later = FillWatch(engine)
    later.take_up([first])
    write(store, np.linspace(0.2, 0.16, 4)[1:] * SIZE, NOW + EVERY_MS)
    assert [a.id for a in later.look(NOW + EVERY_MS)] == [first.id]


def test_nothing_is_asked_where_nothing_of_the_kind_is_measured(store: TelemetryStore) -> None:
    assert FillWatch(PromqlEngine(store, PromqlSettings(), lambda: NOW)).look(NOW) == []
