"""Snapshots of training windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops.core.anomaly import Batch
from aiops.core.errors import InvalidInput, NotFound, TransientError
from aiops.models.datasets import DatasetStore
from aiops.models.encryption import ArtifactKey
from aiops.store.state.database import StateDatabase
from aiops.store.state.datasets import DatasetRepository
from aiops.store.telemetry.parquet import read_parquet

START, STEP = 1_700_000_040_000, 60_000


def window(series: int = 3, steps: int = 50, seed: int = 0) -> Batch:
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(series, steps)).astype(np.float32)
    mask = draw.random((series, steps)) > 0.2
    values[~mask] = np.nan
    ids = tuple(f"cpu{{host=\"h{row} 'ü'\"}}" for row in range(series))
    return Batch(values, mask, START + STEP * np.arange(steps), STEP, ids)


def same(one: Batch, other: Batch) -> None:
    np.testing.assert_array_equal(one.values.view(np.uint32), other.values.view(np.uint32))
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.timestamps, other.timestamps)
    assert (one.step_ms, one.series_ids, one.groups) == (other.step_ms, other.series_ids, other.groups)


@pytest.fixture
def records() -> DatasetRepository:
    database = StateDatabase("sqlite:///:memory:")
    database.upgrade()
    return DatasetRepository(database)


def test_a_window_comes_back_bit_for_bit(tmp_path: Path, records: DatasetRepository) -> None:
    store = DatasetStore(tmp_path, records, clock=lambda: 7)
    batch = window()
    kept = store.snapshot("anomaly-60s", batch, "rate(x[5m])")
    assert (kept.name, kept.query, kept.series, kept.points) == ("anomaly-60s", "rate(x[5m])", 3, batch.mask.sum())
    assert (kept.start_ms, kept.end_ms, kept.step_ms, kept.created_ms) == (START, START + 50 * STEP, STEP, 7)
    same(store.load(kept.id), batch)
    assert store.snapshot("anomaly-60s", batch, "rate(x[5m])") == kept
    assert store.of("anomaly-60s") == (kept,)
    columns = read_parquet(tmp_path / kept.path)
    assert set(columns) == {"series", "owner", "time", "value", "observed"}
    assert columns["time"][:2].tolist() == [START, START + STEP]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=4, unique=True),
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6),
    grouped=st.booleans(),
)
def test_any_window_comes_back(
    tmp_path: Path, records: DatasetRepository, ids: list[str], values: list[float], grouped: bool
) -> None:
    table = np.array([values] * len(ids), np.float32)
    times = START + STEP * np.arange(len(values))
    groups = tuple(f"g{len(key)}" for key in ids) if grouped else ()
    batch = Batch(table, np.ones(table.shape, bool), times, STEP, tuple(ids), groups)
    store = DatasetStore(tmp_path, records)
    same(store.load(store.snapshot("m", batch, "").id), batch)


def test_a_changed_snapshot_is_refused(tmp_path: Path, records: DatasetRepository) -> None:
    store = DatasetStore(tmp_path, records)
    one, other = store.snapshot("m", window(), ""), store.snapshot("m", window(seed=1), "")
    (tmp_path / one.path).write_bytes((tmp_path / other.path).read_bytes())
    with pytest.raises(InvalidInput, match="SHA-256"):
        store.load(one.id)
    (tmp_path / one.path).write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="cannot be read"):
        store.load(one.id)
    (tmp_path / one.path).unlink()
    with pytest.raises(TransientError, match="not there"):
        store.load(one.id)
    with pytest.raises(NotFound):
        store.load("sha256:none")


def test_uneven_times_are_refused(tmp_path: Path, records: DatasetRepository) -> None:
    batch = Batch(np.zeros((1, 2), np.float32), np.ones((1, 2), bool), np.array([START, START + 1]), STEP, ("a",))
    with pytest.raises(InvalidInput, match="evenly"):
        DatasetStore(tmp_path, records).snapshot("m", batch, "")


def test_retention_keeps_the_newest_and_the_live(tmp_path: Path, records: DatasetRepository) -> None:
    live: set[str] = set()
    times = iter(range(100))
    store = DatasetStore(tmp_path, records, keep=2, live=lambda _: live, clock=lambda: next(times))
    made = [store.snapshot("m", window(seed=seed), "") for seed in range(5)]
    beside = store.snapshot("other", window(seed=9), "")
    live.add(made[0].id)
    assert {one.id for one in store.retain("m")} == {made[1].id, made[2].id}
    assert [one.id for one in store.of("m")] == [made[4].id, made[3].id, made[0].id]
    assert sorted(p.name for p in (tmp_path / "datasets").iterdir()) == sorted(
        Path(one.path).name for one in (*store.of("m"), beside)
    )


def test_an_encrypted_snapshot(tmp_path: Path, records: DatasetRepository) -> None:
    pytest.importorskip("duckdb_extension_httpfs")
    batch = window()
    store = DatasetStore(tmp_path, records, key=ArtifactKey(b"secret"))
    kept = store.snapshot("m", batch, "rate(secret_metric[5m])")
    raw = (tmp_path / kept.path).read_bytes()
    assert b"secret_metric" not in raw
    assert b"cpu{" not in raw
    same(store.load(kept.id), batch)
    for key in (None, ArtifactKey(b"other")):
        with pytest.raises(InvalidInput, match="cannot be read"):
            DatasetStore(tmp_path, records, key=key).load(kept.id)
